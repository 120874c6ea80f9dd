"""What two files say by themselves: nodes, scales, sizes, and what only their plans know."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import diff
from qcompile.compiler.diff.onnx_side import read_onnx
from qcompile.compiler.diff.side import Grid
from qcompile.compiler.report.json_view import report_json
from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan import QuantParams
from tests.compiler.encodings.tool import scales_of_the_tool
from tests.compiler.small import DIGITS, built, cnn, digits, pictures, saved


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float model, two builds of it by other ranges, and one of them with a node left float."""
    folder = tmp_path_factory.mktemp("diff")
    model = saved(cnn(), folder)
    np.savez(folder / "data.npz", x=pictures(24))
    for name, ranges in (("a", "minmax"), ("b", "entropy")):
        built(model, data=folder / "data.npz", out=folder / f"{name}.onnx", ranges=ranges)
    plan = json.loads((folder / "a.onnx.plan.json").read_text())
    conv = next(name for name, node in plan["nodes"].items() if node["op"] == "Conv")
    plan["nodes"][conv] = {"op": "Conv", "mode": "float", "reason": "to try it"}
    (folder / "edited.plan.json").write_text(json.dumps(plan))
    built(model, plan=folder / "edited.plan.json", out=folder / "c.onnx")
    return folder


def test_a_build_is_the_same_as_itself(folder: Path) -> None:
    report = diff(folder / "a.onnx", folder / "a.onnx")
    assert report.same
    assert report.grids == ()
    assert report.same_grids > 5
    assert report.same_nodes > 5


def test_scales_that_differ_are_listed_with_their_rules(folder: Path) -> None:
    report = diff(folder / "a.onnx", folder / "b.onnx")
    assert not report.same
    assert report.nodes == ()
    first = report.grids[0]
    assert first.first is not None
    assert first.second is not None
    assert (first.first.rule, first.second.rule) == ("minmax", "entropy")
    assert first.ratio == pytest.approx(first.second.scale / first.first.scale)
    assert all(grid.role == "activation" for grid in report.grids), "weights are the same"


def test_nodes_that_become_something_else_have_a_reason(folder: Path) -> None:
    report = diff(folder / "a.onnx", folder / "c.onnx")
    changed = {node.op: node for node in report.nodes}
    assert (changed["Conv"].first, changed["Conv"].second) == ("integer", "float")
    assert changed["Conv"].second_reason == "to try it"
    assert (changed["Relu"].first, changed["Relu"].second) == ("absorbed", "float")
    names = {count.name for count in report.operators}
    assert "QuantizeLinear" in names


def test_plans_alone_can_be_compared(folder: Path) -> None:
    plans = [folder / f"{name}.onnx.plan.json" for name in "ab"]
    of_plans, of_builds = diff(*plans), diff(folder / "a.onnx", folder / "b.onnx")
    assert of_plans.grids == of_builds.grids
    assert of_plans.corrections == of_builds.corrections
    assert not of_plans.same
    assert diff(plans[0], plans[0]).same
    mixed = diff(plans[0], folder / "b.onnx")
    assert mixed.grids == of_builds.grids
    assert mixed.weight_bytes == ()


def test_a_plan_cannot_be_run(folder: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        diff(folder / "a.onnx", folder / "b.onnx.plan.json", data=folder / "data.npz")
    assert caught.value.code == Code.BAD_OPTION


def test_a_plan_of_another_file_is_not_used(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "b.onnx").write_bytes((folder / "b.onnx").read_bytes())
    for end in (".plan.json", ".report.json"):
        (tmp_path / f"b.onnx{end}").write_bytes((folder / f"a.onnx{end}").read_bytes())
    report = diff(folder / "a.onnx", tmp_path / "b.onnx")
    assert not report.second.has_plan
    assert any("b.onnx.plan.json is not used" in str(note) for note in report.notes)
    assert report.grids, "the file itself says its scales"


def test_without_plans_the_files_say_the_same(folder: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.onnx").write_bytes((folder / f"{name}.onnx").read_bytes())
    bare = diff(tmp_path / "a.onnx", tmp_path / "b.onnx")
    full = diff(folder / "a.onnx", folder / "b.onnx")
    assert [grid.value for grid in bare.grids] == [grid.value for grid in full.grids]
    assert [grid.ratio for grid in bare.grids] == [grid.ratio for grid in full.grids]
    assert not bare.first.has_plan


def test_a_float_model_becomes_integer_node_by_node(folder: Path) -> None:
    report = diff(folder / "model.onnx", folder / "a.onnx")
    assert report.first.is_float
    assert {(node.first, node.second) for node in report.nodes} == {
        ("float", "integer"),
        ("float", "absorbed"),
    }
    assert report.grids == ()


def test_what_ort_s_tool_writes_is_read_by_the_user_s_names(tmp_path: Path) -> None:
    source, overrides = DIGITS / "digits.onnx", tmp_path / "o.json"
    overrides.write_text('{"input": [{"quant_type": "QUInt8", "scale": 0.004, "zero_point": 0}]}')
    theirs = scales_of_the_tool(source, overrides, tmp_path / "tool.onnx", (1, 1, 8, 8))
    side = read_onnx(tmp_path / "tool.onnx", {})
    for name, (scale, zero) in theirs.items():
        if name in side.grids:
            assert np.array_equal(side.grids[name].params.scale, scale), name
            assert np.array_equal(side.grids[name].params.zero_point, zero), name
    assert {"input", "02_Relu", "probabilities", "00_Conv.weight"} <= set(side.grids)
    assert side.nodes["00_Conv"].mode == "integer"
    digits(out=tmp_path / "ours.onnx")
    report = diff(tmp_path / "ours.onnx", tmp_path / "tool.onnx")
    ours = next(grid for grid in report.grids if grid.value == "input")
    assert ours.second is not None
    assert ours.second.scale == pytest.approx(0.004)


def test_dynamic_and_weight_only_nodes_are_told_apart(folder: Path, tmp_path: Path) -> None:
    built(folder / "model.onnx", scheme="w8a8-dynamic", out=tmp_path / "d.onnx")
    bare = tmp_path / "bare.onnx"
    bare.write_bytes((tmp_path / "d.onnx").read_bytes())
    modes = {info.mode for info in read_onnx(bare, {}).nodes.values()}
    assert "float" in modes
    report = diff(folder / "a.onnx", tmp_path / "d.onnx")
    assert {node.second for node in report.nodes} <= {"dynamic", "float", "absorbed"}


def grid(dtype: str, scale: object, zero: object) -> Grid:
    zeros = np.broadcast_to(np.asarray(zero, np.int64), np.shape(scale))
    return Grid("activation", dtype, QuantParams(np.asarray(scale, np.float32), zeros))


def test_the_same_grid_in_another_type_is_the_same() -> None:
    assert grid("uint8", 0.5, 130).is_same(grid("int8", 0.5, 2))
    assert not grid("uint8", 0.5, 130).is_same(grid("int8", 0.5, 3))
    assert not grid("uint8", 0.5, 130).is_same(grid("uint8", 0.25, 130))
    assert not grid("int16", 0.5, 0).is_same(grid("int8", 0.5, 0))
    assert grid("int8", [0.5, 0.5], 0).is_same(grid("int8", 0.5, 0))
    assert not grid("int8", [0.5, 0.25], 0).is_same(grid("int8", 0.5, 0))
    assert not grid("int8", [0.5, 0.5], 0).is_same(grid("int8", [0.5, 0.5, 0.5], 0))


def test_the_report_as_json_has_a_version_and_no_infinity(folder: Path) -> None:
    report = diff(folder / "a.onnx", folder / "b.onnx", data=folder / "data.npz")
    view = json.loads(report_json(report))
    assert (view["kind"], view["schema_version"], view["same"]) == ("diff", 1, False)
    assert view["layers"][0]["identical"] in {True, False}
    again = diff(folder / "a.onnx", folder / "b.onnx", data=folder / "data.npz", threads=1)
    assert report_json(again) == report_json(replace(report))
    assert "<table" in report._repr_html_()


def test_a_file_that_is_no_model_has_its_own_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nonsense")
    with pytest.raises(QCompileError):
        diff(folder / "a.onnx", tmp_path / "x.onnx")
    with pytest.raises(QCompileError) as caught:
        diff(folder / "a.onnx", tmp_path / "none.tflite")
    assert caught.value.code == Code.MODEL_NOT_FOUND
