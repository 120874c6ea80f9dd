"""A saved plan builds the same bytes; an edited one does what it says, or is refused by name."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from qcompile.compiler.api import BuildResult
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

Document = dict[str, Any]
SUFFIXES = ("", ".plan.json", ".plan.npz")


@dataclass
class Saved:
    """A build of the example, and a way to build again from its plan after an edit."""

    folder: Path
    result: BuildResult

    @property
    def document(self) -> Document:
        document: Document = json.loads((self.folder / "first.plan.json").read_text())
        return document

    def replay(self, edit: Callable[[Document], object] = lambda _: None, **options: object) -> Any:
        document = self.document
        edit(document)
        (self.folder / "edited.plan.json").write_text(json.dumps(document))
        arrays = (self.folder / "first.plan.npz").read_bytes()
        (self.folder / "edited.plan.npz").write_bytes(arrays)
        plan = self.folder / "edited.plan.json"
        return small.digits(**{"data": None, "plan": plan, "target": None, **options})


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    folder = tmp_path_factory.mktemp("saved")
    return Saved(folder, small.digits(out=folder / "first"))


def entries(saved: Saved, kind: str, **wanted: str) -> list[str]:
    """Names of the plan's nodes or values whose keys have the wanted values."""
    return [
        name
        for name, record in saved.document[kind].items()
        if all(record.get(key) == value for key, value in wanted.items())
    ]


def quality(result: BuildResult) -> float:
    assert result.report.accuracy is not None
    assert result.report.accuracy.outputs[0].sqnr_db is not None
    return result.report.accuracy.outputs[0].sqnr_db


EVAL = {"eval_data": small.DIGITS / "test.npz"}


# --- as it is ---------------------------------------------------------------------------------


def test_the_same_files_without_data(saved: Saved) -> None:
    again = saved.replay(out=saved.folder / "again")
    assert again.artefact == saved.result.artefact
    for suffix in SUFFIXES:
        one, two = (saved.folder / f"{name}{suffix}" for name in ("first", "again"))
        assert one.read_bytes() == two.read_bytes(), suffix
    assert again.report.calibration == "a saved plan"
    assert again.report.coverage == saved.result.report.coverage
    assert small.warnings(again) == []


@pytest.mark.parametrize("scheme", ["w8a8-dynamic", "float"])
def test_a_plan_brings_its_scheme(tmp_path: Path, scheme: str) -> None:
    model = small.saved(small.mlp(), tmp_path)
    first = small.built(model, scheme=scheme, out=tmp_path / "a")
    again = small.built(model, plan=tmp_path / "a.plan.json", target=None)
    assert again.artefact == first.artefact
    assert again.report.scheme == scheme


def test_a_plan_brings_its_target_and_ends(tmp_path: Path) -> None:
    model = small.saved(small.cnn(), tmp_path)
    data = {"x": small.pictures(16)}
    first = small.built(model, data=data, target="ort-arm64", ends="uint8", out=tmp_path / "a")
    again = small.built(model, plan=tmp_path / "a.plan.json", target=None)
    assert again.artefact == first.artefact
    assert again.report.target == "ort-arm64"
    assert again.report.options == (("io", "uint8"),)


def test_without_its_arrays_the_corrections_are_gone(saved: Saved) -> None:
    assert saved.result.plan.corrections
    alone = saved.folder / "alone.plan.json"
    alone.write_text(json.dumps(saved.document))
    result = small.digits(data=None, plan=alone)
    assert result.plan.corrections == {}
    assert result.artefact != saved.result.artefact


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"target": "ort-x86-vnni"}, "target"),
        ({"scheme": "w8a8-dynamic"}, "scheme"),
        ({"ends": "uint8"}, "--io"),
    ],
)
def test_asking_for_something_else_than_the_plan_was_made_for(
    saved: Saved, options: dict[str, object], word: str
) -> None:
    with pytest.raises(QCompileError) as caught:
        saved.replay(**options)
    assert caught.value.code is Code.PLAN_MISMATCH
    assert word in caught.value.message


def test_the_plan_of_another_model(saved: Saved, tmp_path: Path) -> None:
    other = small.saved(small.cnn(), tmp_path)
    with pytest.raises(QCompileError) as caught:
        small.built(other, plan=saved.folder / "first.plan.json")
    assert caught.value.code is Code.PLAN_MISMATCH
    weights = onnx.load(str(other))
    small.built(other, data={"x": small.pictures(16)}, out=tmp_path / "p")
    changed = onnx.numpy_helper.to_array(weights.graph.initializer[0]) + np.float32(1e-3)
    weights.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(changed, "w1"))
    with pytest.raises(QCompileError) as caught:
        small.built(small.saved(weights, tmp_path, "w.onnx"), plan=tmp_path / "p.plan.json")
    assert caught.value.code is Code.PLAN_MISMATCH


# --- edited -----------------------------------------------------------------------------------


def test_a_scale_is_taken_and_what_hung_on_it_dropped(saved: Saved) -> None:
    name = entries(saved, "values", role="activation")[1]
    before = saved.document["values"][name]["scale"]
    result = saved.replay(lambda d: d["values"][name].update(scale=before * 2), **EVAL)
    params = result.plan.values[name].params
    assert float(params.scale) == np.float32(before * 2)
    (dropped,) = small.warnings(result)
    assert "bias correction(s) were dropped" in dropped
    assert name in dropped
    assert quality(result) > 36
    derived = [
        v for v in result.plan.values.values() if getattr(v.relation, "activation", "") == name
    ]
    for bias in derived:
        weight = result.plan.values[bias.relation.weight].params
        wanted = (params.scale * weight.scale).astype(np.float32)
        assert np.array_equal(bias.params.scale, wanted), "the bias follows"


def test_a_scale_that_clips_is_taken_too(saved: Saved) -> None:
    name = entries(saved, "values", role="activation")[1]
    before = saved.document["values"][name]["scale"]
    result = saved.replay(lambda d: d["values"][name].update(scale=before / 40), **EVAL)
    assert quality(result) < 20


def test_a_node_made_float_is_float_with_what_it_absorbed(saved: Saved) -> None:
    conv = entries(saved, "nodes", op="Conv")[1]
    (relu,) = entries(saved, "nodes", into=conv)
    result = saved.replay(lambda d: d["nodes"][conv].update(mode="float"), **EVAL)
    reasons = {n.name: n.reason for n in result.report.coverage.float_nodes}
    assert reasons == {conv: "the plan says so", relu: "Conv before it is float"}
    assert small.integer_share(result, "Conv") == (3, 1)
    assert quality(result) > 36


def test_the_reason_given_by_hand_is_reported(saved: Saved) -> None:
    conv = entries(saved, "nodes", op="Conv")[0]
    result = saved.replay(lambda d: d["nodes"][conv].update(mode="float", reason="too coarse"))
    assert result.report.coverage.float_nodes[0].reason == "too coarse"


@pytest.mark.parametrize(
    "op", ["Conv", "MaxPool", "GlobalAveragePool", "Flatten", "Gemm", "Softmax"]
)
def test_any_node_can_be_made_float(saved: Saved, op: str) -> None:
    names = entries(saved, "nodes", op=op)
    result = saved.replay(lambda d: [d["nodes"][n].update(mode="float") for n in names], **EVAL)
    assert small.integer_share(result, op) == (0, len(names))
    assert quality(result) > 36


def test_all_nodes_made_float_is_the_float_model(saved: Saved) -> None:
    names = entries(saved, "nodes")
    result = saved.replay(lambda d: [d["nodes"][n].update(mode="float") for n in names], **EVAL)
    assert quality(result) > 100
    assert "nothing in this model became integer" in small.warnings(result)


def test_an_edited_plan_is_saved_as_it_was_used(saved: Saved) -> None:
    conv = entries(saved, "nodes", op="Conv")[1]
    first = saved.replay(
        lambda d: d["nodes"][conv].update(mode="float"), out=saved.folder / "second"
    )
    again = small.digits(data=None, plan=saved.folder / "second.plan.json", target=None)
    assert again.artefact == first.artefact
    assert small.warnings(again) == []


def test_the_other_type_of_weights(saved: Saved) -> None:
    name = entries(saved, "values", role="weight")[0]
    result = saved.replay(lambda d: d["values"][name].update(dtype="uint8", zero_point=128), **EVAL)
    assert result.plan.values[name].dtype == "uint8"
    assert small.integer_share(result, "Conv") == (4, 0)
    assert quality(result) > 36


def test_an_edit_of_what_follows_another_value_has_no_effect_and_says_so(saved: Saved) -> None:
    (name,) = [n for n, v in saved.document["values"].items() if "12_" in n and v.get("relation")]
    before = saved.document["values"][name]["scale"]
    result = saved.replay(lambda d: d["values"][name].update(scale=before * 2))
    assert any(name in w and "takes after" in w for w in small.warnings(result))


def edit(kind: str, name: str, **keys: object) -> Callable[[Document], object]:
    return lambda d: d[kind][name].update(keys)


CONV, RELU, ACTIVATION, WEIGHT = "03_Conv", "05_Relu", "02_Relu", "03_Conv.weight"
REFUSED: dict[str, tuple[Callable[[Document], object], str]] = {
    "a mode that the scheme has not": (edit("nodes", CONV, mode="dynamic"), CONV),
    "no such mode": (edit("nodes", CONV, mode="fast"), CONV),
    "an absorbed node alone": (edit("nodes", RELU, mode="float"), CONV),
    "another op": (edit("nodes", CONV, op="Gemm"), CONV),
    "absorbed by another": (edit("nodes", RELU, into="00_Conv"), RELU),
    "no such node": (lambda d: d["nodes"].update(zz={"op": "Conv", "mode": "float"}), "zz"),
    "a node is missing": (lambda d: d["nodes"].pop("softmax"), "softmax"),
    "a value is missing": (lambda d: d["values"].pop("probabilities"), "probabilities"),
    "no such value": (lambda d: d["values"].update(zz=d["values"][ACTIVATION]), "zz"),
    "no scale": (lambda d: d["values"][ACTIVATION].pop("scale"), ACTIVATION),
    "a scale of zero": (edit("values", ACTIVATION, scale=0), ACTIVATION),
    "a scale that is text": (edit("values", ACTIVATION, scale="x"), ACTIVATION),
    "an activation a channel": (edit("values", ACTIVATION, scale=[0.1, 0.2]), ACTIVATION),
    "another type of activation": (
        edit("values", ACTIVATION, dtype="int8", zero_point=-128), ACTIVATION,
    ),
    "no such type": (edit("values", WEIGHT, dtype="int7"), WEIGHT),
    "a type of other width": (edit("values", WEIGHT, dtype="int4"), WEIGHT),
    "too few scales": (edit("values", WEIGHT, scale=[0.1] * 3), WEIGHT),
    "another axis": (edit("values", WEIGHT, axis=1), WEIGHT),
    "a zero point out of range": (edit("values", ACTIVATION, zero_point=256), ACTIVATION),
    "a zero point that no kernel takes": (edit("values", WEIGHT, zero_point=3), WEIGHT),
    "another role": (edit("values", ACTIVATION, role="weight"), ACTIVATION),
    "another relation": (edit("values", ACTIVATION, relation={"shared": "input"}), ACTIVATION),
    "what a kernel sets": (edit("values", "probabilities", scale=0.01), "probabilities"),
    "ends that there are not": (lambda d: d.update(ends="int7"), "ends"),
    "another version": (lambda d: d.update(schema_version=99), "schema_version"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name(saved: Saved, name: str) -> None:
    change, word = REFUSED[name]
    with pytest.raises(QCompileError) as caught:
        saved.replay(change)
    assert caught.value.code is Code.BAD_PLAN
    assert word in caught.value.message
    assert len(caught.value.message) < 200


def test_a_node_that_has_no_integer_kernel_cannot_be_made_integer(tmp_path: Path) -> None:
    model = small.saved(small.mlp(), tmp_path)
    small.built(model, data={"x": small.rows(16)}, out=tmp_path / "a")
    path = tmp_path / "a.plan.json"
    document = json.loads(path.read_text())
    (name,) = [n for n, r in document["nodes"].items() if r["op"] == "Tanh"]
    document["nodes"][name]["mode"] = "integer"
    path.write_text(json.dumps(document))
    with pytest.raises(QCompileError) as caught:
        small.built(model, plan=path)
    assert caught.value.code is Code.BAD_PLAN
    assert "ONNX Runtime has no integer Tanh" in caught.value.message
