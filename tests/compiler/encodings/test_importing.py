"""A build takes the scales of a file as they are, and says what it could not take and why."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.api import BuildResult
from qcompile.compiler.export import export_build
from qcompile.compiler.importers.options import ImportOptions
from qcompile.core.errors import Code, QCompileError
from tests.compiler.small import built, cnn, digits, pictures, saved, text_model, weights


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    np.savez(folder / "data.npz", x=pictures(16))
    return saved(cnn(), folder)


def record(scale: float, zero: int, kind: str = "QUInt8", **more: Any) -> dict[str, Any]:
    return {"quant_type": kind, "scale": scale, "zero_point": zero, **more}


def build_with(table: dict[str, Any], model: Path, folder: Path, **options: Any) -> BuildResult:
    (folder / "e.json").write_text(json.dumps(table))
    return built(model, data=model.parent / "data.npz", encodings=folder / "e.json", **options)


def notes(result: BuildResult, level: str | None = None) -> str:
    return "\n".join(str(n) for n in result.report.notes if n.level == level or level is None)


def test_an_activation_is_taken_to_the_last_bit(model: Path, tmp_path: Path) -> None:
    result = build_with({"b": [record(0.0123, 7)]}, model, tmp_path)
    entry = result.plan.values["b"]
    assert entry.params is not None
    assert entry.params.scale == np.float32(0.0123)
    assert entry.params.zero_point == 7
    assert (entry.rule, entry.reason) == ("imported", "given by e.json")
    assert result.plan.values["d"].rule == "minmax"
    assert "1 of 1 encodings of e.json are taken as they are" in notes(result)


def test_a_signed_grid_is_moved_to_the_unsigned_type(model: Path, tmp_path: Path) -> None:
    result = build_with({"b": [record(0.0123, -121, "QInt8")]}, model, tmp_path)
    params = result.plan.values["b"].params
    assert params is not None
    assert params.zero_point == 7


def test_weights_are_taken_by_channel_and_by_tensor(model: Path, tmp_path: Path) -> None:
    channels = [record(0.01 + i / 1000, 0, "QInt8", axis=0) for i in range(8)]
    result = build_with({"w1": channels, "w2": [record(0.02, 0, "QInt8")]}, model, tmp_path)
    first, second = result.plan.values["w1"], result.plan.values["w2"]
    assert first.params is not None
    assert second.params is not None
    assert (first.granularity, first.axis, first.rule) == ("channel", 0, "imported")
    assert np.array_equal(first.params.scale, np.float32([0.01 + i / 1000 for i in range(8)]))
    assert (second.granularity, second.axis) == ("tensor", None)
    assert second.params.scale == np.float32(0.02)


def test_equal_values_take_the_scale_of_one_together(tmp_path: Path) -> None:
    source = text_model(
        """net (float[1, 2, 8, 8] x) => (float[1, 32] y) {
            a = Conv (x, w)
            b = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (a)
            y = Flatten (b)
        }""",
        {"w": weights(1, 2, 2, 1, 1)},
    )
    np.savez(tmp_path / "data.npz", x=np.float32(np.ones((8, 2, 8, 8))))
    path = saved(source, tmp_path)
    result = build_with({"b": [record(0.03, 5)], "y": [record(0.04, 5)]}, path, tmp_path)
    for name in ("a", "b", "y"):
        params = result.plan.values[name].params
        assert params is not None
        assert params.scale == np.float32(0.03), name
    assert "y: they must have the scale of b" in notes(result, "warning")


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ({"b": [record(0.01, 0, "QUInt16")]}, "the plan has uint8 where the file has uint16"),
        ({"w1": [record(0.01, 3, "QInt8")]}, "zero point 0 for weights"),
        (
            {"w1": [record(0.01, 0, "QInt8", axis=1)] * 3},
            "one scale, or 8 along axis 0",
        ),
        (
            {"w1": [record(0.01, 0, "QInt8", axis=0)] * 3},
            "one scale, or 8 along axis 0",
        ),
    ],
)
def test_what_the_kernels_do_not_take_is_calibrated_and_told(
    table: dict[str, Any], why: str, model: Path, tmp_path: Path
) -> None:
    result = build_with(table, model, tmp_path)
    assert why in notes(result, "warning")
    assert not any(v.rule == "imported" for v in result.plan.values.values())


def test_names_without_a_scale_here_are_told(model: Path, tmp_path: Path) -> None:
    result = build_with({"a": [record(0.01, 0)], "b1": [record(1, 0, "QInt8")]}, model, tmp_path)
    assert "a: no integer node reads or makes them" in notes(result, "info")
    assert "b1: scales of biases follow from the others" in notes(result, "info")


def test_an_unknown_name_ends_the_build_with_near_ones(model: Path, tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        build_with({"w11": [record(0.01, 0, "QInt8")]}, model, tmp_path)
    assert caught.value.code == Code.BAD_ENCODINGS
    assert "'w1'" in (caught.value.hint or "")


def test_scales_that_kernels_cannot_hold_are_told(model: Path, tmp_path: Path) -> None:
    result = build_with({"w1": [record(1e-12, 0, "QInt8")]}, model, tmp_path)
    assert "w1: the kernels demand other scales than the file gives" in notes(result, "warning")


def test_folded_weights_are_not_taken(tmp_path: Path) -> None:
    (tmp_path / "e.json").write_text(json.dumps({"00_Conv.weight": [record(1, 0, "QInt8")]}))
    result = digits(encodings=tmp_path / "e.json")
    assert "00_Conv.weight: preparation has folded something" in notes(result, "warning")


def test_a_plan_leaves_no_place_for_encodings(model: Path, tmp_path: Path) -> None:
    build_with({"b": [record(0.01, 0)]}, model, tmp_path, out=tmp_path / "o.onnx")
    with pytest.raises(QCompileError, match="--encodings has no place"):
        built(model, plan=tmp_path / "o.onnx.plan.json", encodings=tmp_path / "e.json")
    with pytest.raises(QCompileError, match="has no scales"):
        built(model, scheme="float", encodings=tmp_path / "e.json")


def test_the_file_is_never_written_to(model: Path, tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        build_with({"b": [record(0.01, 0)]}, model, tmp_path, out=tmp_path / "e.json")
    assert caught.value.code == Code.OUTPUT_IS_INPUT


def test_a_build_with_encodings_replays_to_the_byte(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    first = build_with({"b": [record(0.0123, 0)]}, model, tmp_path, out=out)
    again = built(model, plan=out.with_name("o.onnx.plan.json"))
    assert again.artefact == first.artefact
    assert again.plan.values["b"].rule == "imported"


@pytest.mark.parametrize("form", ["ort", "aimet", "aimet-0.6.1", "aimet-2.0.0"])
def test_what_is_exported_comes_back(form: str, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    data = model.parent / "data.npz"
    first = built(model, data=data, out=out, ranges="mse")
    export_build(out, model, tmp_path / "e.json", form, ImportOptions(), prepared=False)
    again = built(model, data=data, encodings=tmp_path / "e.json", ranges="minmax")
    for name, entry in first.plan.values.items():
        other = again.plan.values[name]
        assert entry.params is not None
        assert other.params is not None
        assert other.params.same_as(entry.params), name
    assert again.artefact == first.artefact


def test_a_plan_of_another_model_is_not_exported(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.onnx"
    built(model, data=model.parent / "data.npz", out=out)
    other = saved(cnn(seed=3), tmp_path, "other.onnx")
    with pytest.raises(QCompileError) as caught:
        export_build(out, other, tmp_path / "e.json", "ort", ImportOptions(), prepared=False)
    assert caught.value.code == Code.PLAN_MISMATCH
    assert not (tmp_path / "e.json").exists()
    with pytest.raises(QCompileError, match=r"no model\.onnx\.plan\.json"):
        export_build(model, model, tmp_path / "e.json", "ort", ImportOptions(), prepared=False)
