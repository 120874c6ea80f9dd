"""Parts known to lose in 8 bits are left float where that buys a decibel, and only there."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.api import BuildResult
from qcompile.compiler.report.tried import TriedStep
from qcompile.compiler.search.patterns import (
    BALANCED,
    LEAST_GAIN,
    MAX,
    STEM_GAINS,
    PatternStep,
    pattern_steps,
)
from qcompile.compiler.search.recipe import Recipe
from qcompile.core.plan import Chosen
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.prove import optimized_graph
from tests.compiler.search.nets import (
    attention,
    classifier,
    pictures,
    sentences,
    squeeze_excite,
)
from tests.compiler.small import built, saved
from tests.passes.planning import draft

ORT, TFLITE = "ort-arm64", "tflite-arm64"
BLOCK = ["GlobalAveragePool_4", "Conv_5", "Conv_7", "HardSigmoid_8"]


def steps(result: BuildResult) -> dict[str, TriedStep]:
    return {tried.step: tried for tried in result.report.tried}


def reasons(result: BuildResult) -> set[str]:
    return {node.reason for node in result.report.coverage.float_nodes}


def kernels(result: BuildResult) -> set[str]:
    """Op types in ONNX Runtime's own graph."""
    return {node.op_type for node in optimized_graph(result.artefact).node}


def made(model: onnx.ModelProto, folder: Path, data: object, **options: object) -> BuildResult:
    given = {"target": ORT, "data": data, "effort": "balanced", "scheme": "w8a8", **options}
    return built(saved(model, folder), **given)


def test_gates_that_saturate_are_worth_floats(tmp_path: Path) -> None:
    result = made(squeeze_excite(saturated=True), tmp_path, {"x": pictures(64)})
    step = steps(result)["squeeze-and-excite left float"]
    assert step.kept
    # 1.7 dB: HardSigmoid, which has no kernel, reads logits that are floats already
    assert step.db_after > step.db_before + LEAST_GAIN
    assert not any(result.plan.is_integer(name) for name in BLOCK)
    named = {n.name: n for n in result.report.coverage.float_nodes}
    assert named["Conv_7"].pattern == "squeeze-and-excite"
    assert named["Conv_7"].reason.startswith("squeeze-and-excite: ")
    assert result.plan.is_integer("Conv_2"), "what stands before it stays integer"
    assert result.plan.is_integer("Conv_10")


def test_gates_that_hardly_move_stay_integer(tmp_path: Path) -> None:
    result = made(squeeze_excite(saturated=False), tmp_path, {"x": pictures(64)})
    step = steps(result)["squeeze-and-excite left float"]
    assert not step.kept
    assert step.db_after < step.db_before + LEAST_GAIN
    assert result.plan.is_integer("Conv_5")
    assert result.plan.is_integer("Conv_7")


def test_a_saved_plan_keeps_it(tmp_path: Path) -> None:
    model, data = squeeze_excite(saturated=True), {"x": pictures(64)}
    first = made(model, tmp_path, data, out=tmp_path / "a.onnx")
    again = built(
        tmp_path / "model.onnx", target=ORT, plan=tmp_path / "a.onnx.plan.json",
        out=tmp_path / "b.onnx",
    )  # fmt: skip
    assert again.artefact == first.artefact
    assert again.report.tried == ()


def test_fast_tries_none(tmp_path: Path) -> None:
    result = made(squeeze_excite(saturated=True), tmp_path, {"x": pictures(24)}, effort="fast")
    assert list(steps(result)) == ["bias correction"]


def test_a_mask_makes_attention_worth_floats(tmp_path: Path) -> None:
    result = made(attention(masked=True), tmp_path, sentences(48))
    step = steps(result)["attention softmax left float"]
    assert step.kept
    assert step.db_after > step.db_before + 3
    assert result.plan.mode("Softmax_8") == "float"
    assert result.plan.is_integer("MatMul_4")
    assert any(why.startswith("attention softmax: ") for why in reasons(result))


def test_without_one_it_stays_integer(tmp_path: Path) -> None:
    result = made(attention(masked=False), tmp_path, sentences(48))
    assert not steps(result)["attention softmax left float"].kept
    assert result.plan.is_integer("Softmax_7")


def test_much_work_in_floats_has_its_price(tmp_path: Path) -> None:
    """Half of the MatMuls read the input: they buy two dB, for most of the work."""
    result = made(attention(masked=True), tmp_path, sentences(48), effort="max")
    step = steps(result)["first layer left float (3 of them)"]
    assert step.db_after > step.db_before + LEAST_GAIN
    assert not step.kept
    cheap, dear = (PatternStep("first layer", (), share) for share in (0.01, 0.1))
    assert (cheap.least_gain, dear.least_gain) == (LEAST_GAIN, pytest.approx(5.0))


def test_a_stem_is_left_float_where_that_costs_no_time(tmp_path: Path) -> None:
    """The first two layers, whatever their share of the work, on a target that says so."""
    short, longer = (PatternStep(name, (), 0.5).least_gain for name in ("stem", "longer stem"))
    assert short < longer < LEAST_GAIN
    data = {"x": pictures(64)}
    x86, other = (
        made(squeeze_excite(saturated=False), tmp_path, data, target=target)
        for target in ("ort-x86-vnni", ORT)
    )
    step = steps(x86)["stem left float"]
    assert step.kept
    assert step.db_after > step.db_before + STEM_GAINS["stem"]
    assert any(why.startswith("stem: ") for why in reasons(x86))
    assert not any(x86.plan.is_integer(name) for name in ("Conv_0", "Relu_1", "Conv_2", "Relu_3"))
    assert "stem left float" not in steps(other)


def test_scores_of_classes_are_left_float_behind_an_integer_layer(tmp_path: Path) -> None:
    data = {"x": pictures(64)}
    result = made(classifier(), tmp_path, data)
    step = steps(result)["scores of classes left float"]
    assert step.kept
    assert step.db_after > step.db_before + 1
    assert not any(result.plan.is_integer(name) for name in ("Flatten_4", "Softmax_5"))
    assert result.plan.is_integer("Conv_3")
    assert {"QGemm", "Softmax"} <= kernels(result)
    assert not {"Conv", "FusedConv", "QLinearSoftmax"} & kernels(result)
    fast = made(classifier(), tmp_path, data, effort="fast")
    assert "QLinearSoftmax" in kernels(fast)


@pytest.mark.parametrize("ends", ["uint8", "int8"])
def test_they_can_be_given_out_as_bytes(ends: str, tmp_path: Path) -> None:
    result = made(classifier(), tmp_path, {"x": pictures(64)}, ends=ends)
    assert "QGemm" in kernels(result)


def test_what_is_tried_where() -> None:
    graph = ir.from_proto(onnx.shape_inference.infer_shapes(squeeze_excite(saturated=True))).graph
    ort, tflite = load_target(ORT), load_target(TFLITE)
    assert [step.name for step in pattern_steps(graph, ort, BALANCED)] == ["squeeze-and-excite"]
    assert [step.name for step in pattern_steps(graph, ort, MAX)] == [
        "squeeze-and-excite", "first layer", "last layer",
    ]  # fmt: skip
    assert pattern_steps(graph, tflite, MAX) == [], "it is for integers alone"
    x86 = load_target("ort-x86-vnni")
    names = [step.name for step in pattern_steps(graph, x86, BALANCED)]
    assert names == ["squeeze-and-excite", "stem"], "floats take no longer there"


def test_recipes() -> None:
    model = ir.from_proto(onnx.shape_inference.infer_shapes(squeeze_excite(saturated=True)))
    target = load_target(ORT)
    (step,) = pattern_steps(model.graph, target, BALANCED)
    before = Recipe(chosen=Chosen({"Conv_5": "said so"}, {"m": "wide"}))
    after = step.recipe(before).chosen
    assert after.float_nodes["Conv_5"] == "said so"
    assert after.float_nodes["Conv_7"].startswith("squeeze-and-excite: ")
    assert after.wide_nodes == {"m": "wide"}
    assert step.eases(draft(model, target=target))
    floats = dict(after.float_nodes)
    assert not step.eases(draft(model, target=target, float_nodes=floats))
    assert np.all([name in floats for name in step.places[0].eased])
