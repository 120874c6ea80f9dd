"""Detection tails through whole builds: with 8 bits the scores collapse, eased they do not."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

import qcompile
from qcompile.compiler.api import BuildResult
from qcompile.compiler.search.recipe import Recipe
from qcompile.compiler.search.tails import tail_notes, tail_steps
from qcompile.core.ends import FloatEnds
from qcompile.core.intersection import intersect, unsigned
from qcompile.core.plan import Chosen
from qcompile.targets.backends import backend_of
from qcompile.targets.catalog import load_target
from tests.compiler.small import cnn
from tests.compiler.small import pictures as small_pictures
from tests.detectors import anchored, binned, pictures, split_rows
from tests.passes.planning import draft, planned, session

TFLITE, ORT = "tflite-arm64", "ort-arm64"
DETECTORS = {"anchored": anchored, "binned": binned}
RUNTIMES = [pytest.param(TFLITE, marks=pytest.mark.litert), ORT]
Detector = Callable[[], ir.Model]


def saved(model: ir.Model, folder: Path) -> Path:
    onnx.save(ir.to_proto(model), str(folder / "detector.onnx"))
    return folder / "detector.onnx"


def built(detector: Detector, target: str, folder: Path, **options: object) -> BuildResult:
    data = {"x": np.concatenate([feed["x"] for feed in pictures(16)])}
    given = {"data": data, "effort": "fast", "latency": False, **options}
    out = folder / f"{target}.out"
    return qcompile.build(saved(detector(), folder), target=target, out=out, **given)  # type: ignore[arg-type]


def errors(detector: Detector, run: Callable[[dict[str, np.ndarray]], np.ndarray]) -> list[float]:
    """Mean error of boxes in pixels, and of scores, on other pictures than those of the build."""
    found = []
    for feed in pictures(6, seed=77):
        wanted = split_rows(session(detector()).run(feed)[0])
        pairs = zip(wanted, split_rows(run(feed)), strict=True)
        found.append([float(np.abs(a - b).mean()) for a, b in pairs])
    return [float(x) for x in np.mean(found, axis=0)]


def eight_bits(detector: Detector) -> list[float]:
    """Errors of a plan with 8 bits everywhere, on TFLite, where all of the tail is integer."""
    target = unsigned(load_target(TFLITE))
    qdq = session(planned(detector(), pictures(16), target=target).qdq())
    return errors(detector, lambda feed: qdq.run(feed)[0])


@pytest.mark.parametrize("name", DETECTORS)
def test_with_8_bits_no_score_is_left(name: str) -> None:
    detector = DETECTORS[name]
    qdq = session(planned(detector(), pictures(16), target=unsigned(load_target(TFLITE))).qdq())
    scores = [split_rows(qdq.run(feed)[0])[1] for feed in pictures(6, seed=77)]
    wanted = [split_rows(session(detector()).run(feed)[0])[1] for feed in pictures(6, seed=77)]
    assert not np.any(scores), "one scale for pixels and scores"
    assert np.std(wanted) > 0.1


@pytest.mark.parametrize("target", RUNTIMES)
@pytest.mark.parametrize("name", DETECTORS)
def test_a_build_cures_it(name: str, target: str, tmp_path: Path) -> None:
    detector = DETECTORS[name]
    result = built(detector, target, tmp_path)
    (step,) = [t for t in result.report.tried if t.step.startswith("detection tail")]
    assert step.kept
    count = {"anchored": "9 of 9", "binned": "19 of 19"}[name]
    how = "in int16" if target == TFLITE else "left float"
    assert step.step == f"detection tail {how} ({count} nodes)"
    backend = backend_of(load_target(target).runtime)
    path = tmp_path / f"{target}.out"
    run = FloatEnds(backend.open(path, exact=True), backend.facts(path).ends)
    boxes, scores = errors(detector, lambda feed: run.run(feed)[0])
    before = eight_bits(detector)
    assert scores < 0.02 < 0.2 < before[1]
    assert boxes < 0.8 * before[0]
    coverage = result.report.coverage
    if target == TFLITE:
        assert coverage.integer == coverage.total
        (end,) = [e for n, e in backend.facts(path).ends.items() if n == "y"]
        assert end.dtype == "int16"
    else:
        reasons = {node.reason for node in coverage.float_nodes}
        assert any(reason.startswith("detection tail:") for reason in reasons)


@pytest.mark.litert
def test_a_square_of_the_size_is_no_obstacle(tmp_path: Path) -> None:
    """As exporters write it; there is no integer Pow."""
    result = built(lambda: anchored("Pow (two_wh, two)"), TFLITE, tmp_path)
    assert result.report.coverage.integer == result.report.coverage.total
    assert result.plan.values["y"].dtype == "int16"


@pytest.mark.parametrize("target", RUNTIMES)
def test_a_saved_plan_gives_the_same_file(target: str, tmp_path: Path) -> None:
    first = built(anchored, target, tmp_path)
    plan = tmp_path / f"{target}.out.plan.json"
    again = qcompile.build(
        tmp_path / "detector.onnx", target=target, plan=plan, out=tmp_path / "again",
        latency=False,
    )  # fmt: skip
    assert again.artefact == first.artefact
    assert (tmp_path / "again.plan.json").read_bytes() == plan.read_bytes()


@pytest.mark.litert
def test_a_wide_node_can_be_edited_to_float(tmp_path: Path) -> None:
    """And a type that cannot be is refused with the node."""
    built(anchored, TFLITE, tmp_path)
    plan = tmp_path / f"{TFLITE}.out.plan.json"
    model = tmp_path / "detector.onnx"
    text = plan.read_text()
    edited = text.replace(
        '"op": "Sigmoid",\n   "mode": "integer"', '"op": "Sigmoid",\n   "mode": "float"'
    )
    assert edited != text
    plan.write_text(edited)
    result = qcompile.build(model, target=TFLITE, plan=plan, out=tmp_path / "b", latency=False)
    assert [node.op for node in result.report.coverage.float_nodes] == ["Sigmoid"]
    wrong = text.replace(
        '"op": "Conv",\n   "mode": "integer"',
        '"op": "Conv",\n   "mode": "integer",\n   "activations": "int16"',
        1,
    )
    plan.write_text(wrong)
    with pytest.raises(qcompile.QCompileError, match="int16 activations") as caught:
        qcompile.build(model, target=TFLITE, plan=plan, out=tmp_path / "c", latency=False)
    assert caught.value.node is None or caught.value.code.name == "BAD_PLAN"


@pytest.mark.litert
def test_float_ends_and_two_targets_of_one_kind(tmp_path: Path) -> None:
    result = built(anchored, TFLITE, tmp_path, ends="float")
    assert result.plan.values["y"].dtype == "int16"
    data = {"x": np.concatenate([feed["x"] for feed in pictures(16)])}
    both = qcompile.build_for(
        tmp_path / "detector.onnx", [TFLITE, "tflite-x86"], data=data, effort="fast",
        latency=False, out=None,
    )  # fmt: skip
    assert all(r.plan.values["y"].dtype == "int16" for r in both.values())


def test_others_have_no_steps() -> None:
    model = ir.from_proto(onnx.shape_inference.infer_shapes(cnn()))
    assert small_pictures(1).shape[1:] == (3, 8, 8)
    for target in (TFLITE, ORT):
        assert tail_steps(model.graph, load_target(target)) == []


def test_recipes() -> None:
    graph = anchored().graph
    (step,) = tail_steps(graph, load_target(TFLITE))
    before = Recipe(chosen=Chosen({"n": "said so"}, {"m": "before"}))
    after = step.recipe(before).chosen
    assert after.float_nodes == before.chosen.float_nodes
    assert list(after.wide_nodes) == ["m", *step.tails[0].nodes]
    (step,) = tail_steps(graph, load_target(ORT))
    first = step.tails[0].nodes[0]
    said = Recipe(chosen=replace(before.chosen, float_nodes={first: "said so"}))
    assert step.recipe(said).chosen.float_nodes[first] == "said so"
    assert step.recipe(said).chosen.wide_nodes == before.chosen.wide_nodes


def test_a_target_without_a_remedy_is_named() -> None:
    model = anchored()
    for target in (load_target("tflite-micro"), intersect([load_target(ORT), load_target(TFLITE)])):
        assert tail_steps(model.graph, target) == []
        plan = draft(model, target=target)
        (note,) = tail_notes(model.graph, target, plan)
        assert note.level == "warning"
        assert target.name in note.message
        last = list(model.graph)[-1].name or ""
        floats = draft(model, target=target, float_nodes={last: "asked for"})
        assert tail_notes(model.graph, target, floats) == [], "its boxes are floats anyway"
    for name in (ORT, TFLITE):
        assert tail_notes(model.graph, load_target(name), plan) == []
