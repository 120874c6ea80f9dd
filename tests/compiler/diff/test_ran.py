"""Layer by layer: what is measured is what differs, and the marked value is where it came in."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompile.compiler.api import diff
from qcompile.compiler.diff.parting import CEILING, layers
from qcompile.compiler.diff.side import Side
from qcompile.compiler.diff.trace import Compared, fitting_order
from qcompile.compiler.report.diff_model import DiffReport
from qcompile.compiler.report.model import ModelInfo
from qcompile.core.errors import Code, QCompileError
from tests.compiler.small import DIGITS, built, cnn, digits, pictures, saved, text_model, weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ran")
    model = saved(cnn(), folder)
    np.savez(folder / "data.npz", x=pictures(24))
    built(model, data=folder / "data.npz", out=folder / "a.onnx")
    return folder


def spoiled(path: Path, weight: str, out: Path) -> Path:
    """A copy in which one weight's scale is four times too small, so that it clips."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name == weight:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) / 4, weight))
    onnx.save(model, out)
    return out


def marked(report: DiffReport) -> list[str]:
    return [layer.value for layer in report.layers if layer.parts_here]


def test_a_build_does_not_part_from_itself(folder: Path) -> None:
    report = diff(folder / "a.onnx", folder / "a.onnx", data=folder / "data.npz")
    assert report.same
    assert report.layers
    assert all(layer.identical and layer.fall_db == 0 for layer in report.layers)
    assert marked(report) == []


def test_values_are_compared_in_graph_order_and_real(folder: Path) -> None:
    report = diff(folder / "model.onnx", folder / "a.onnx", data=folder / "data.npz")
    assert [layer.value for layer in report.layers] == ["x", "b", "d", "e", "f", "y"]
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 15 for layer in report.layers)
    assert {layer.op for layer in report.layers[1:]} >= {"Relu", "Gemm"}
    assert report.traced == 16
    assert report.accuracy is not None
    assert report.accuracy.samples == 24


@pytest.mark.parametrize(("weight", "value"), [("w1_scale", "b"), ("w2_scale", "d")])
def test_the_first_value_that_breaks_is_marked(
    weight: str, value: str, folder: Path, tmp_path: Path
) -> None:
    bad = spoiled(folder / "a.onnx", weight, tmp_path / "bad.onnx")
    assert marked(diff(folder / "a.onnx", bad, data=folder / "data.npz")) == [value]
    reference = folder / "model.onnx"
    report = diff(folder / "a.onnx", bad, data=folder / "data.npz", reference=reference)
    assert marked(report) == [value]
    assert report.first_accuracy is not None
    assert report.second_accuracy is not None
    here = next(layer for layer in report.layers if layer.parts_here)
    assert here.first_sqnr_db is not None
    assert here.second_sqnr_db is not None
    assert here.fall_db == pytest.approx(here.first_sqnr_db - here.second_sqnr_db)
    turned = diff(bad, folder / "a.onnx", data=folder / "data.npz", reference=reference)
    assert marked(turned) == [value]


def test_the_limit_decides_what_parting_is(folder: Path, tmp_path: Path) -> None:
    bad = spoiled(folder / "a.onnx", "w1_scale", tmp_path / "bad.onnx")
    data = folder / "data.npz"
    assert marked(diff(folder / "a.onnx", bad, data=data, fall=60)) == []


def test_a_float_model_against_another_of_other_weights(tmp_path: Path) -> None:
    model = cnn()
    changed = cnn()
    for tensor in changed.graph.initializer:
        if tensor.name == "w2":
            array = numpy_helper.to_array(tensor) * np.float32(1.01)
            tensor.CopyFrom(numpy_helper.from_array(array, "w2"))
    np.savez(tmp_path / "data.npz", x=pictures(8))
    first, second = saved(model, tmp_path, "1.onnx"), saved(changed, tmp_path, "2.onnx")
    report = diff(first, second, data=tmp_path / "data.npz")
    assert report.constants == ("w2",)
    assert diff(first, second).constants == ("w2",)
    assert not diff(first, second).same
    same = {layer.value: layer.identical for layer in report.layers}
    assert same["a"]
    assert same["b"]
    assert not same["c"]
    assert not same["y"]


def test_models_with_other_ends_cannot_be_run(folder: Path, tmp_path: Path) -> None:
    other = text_model(
        "net (float[1, 3] x, float[1, 3] z) => (float[1, 3] y) { y = Add (x, z) }",
        {"unused": weights(1, 2)},
    )
    path = saved(other, tmp_path)
    with pytest.raises(QCompileError) as caught:
        diff(folder / "a.onnx", path, data=folder / "data.npz")
    assert caught.value.code == Code.BAD_OPTION
    assert diff(folder / "a.onnx", path).grids == ()


def test_branches_fall_from_their_own_parents() -> None:
    """c is made from b alone, d from both: each is held against the worst that it reads."""
    names = ("a", "b", "c", "d")
    noise = {"a": 1e-4, "b": 1e-2, "c": 1e-2, "d": 1e-1}
    rows = np.array([[1.0, noise[name], 1.0, 1.0] for name in names])
    first = Side(
        path=Path("x"),
        format="onnx",
        info=ModelInfo(name="x", bytes=0, nodes=0, sha256=""),
        parents={"b": ("hidden",), "hidden": ("a",), "c": ("b",), "d": ("a", "c"), "a": ()},
        makers={"b": ("node of b", "Conv")},
    )
    found = layers(Compared(names, rows), first, first, 15.0)
    assert [layer.fall_db for layer in found] == pytest.approx([CEILING - 40, 20, 0, 10])
    assert [layer.parts_here for layer in found] == [False, True, False, False]
    assert (found[1].node, found[1].op) == ("node of b", "Conv")


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 4, 4, 4), (2, 5, 7)])
def test_the_order_of_axes_is_found(shape: tuple[int, ...]) -> None:
    like = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    last = (0, *range(2, len(shape)), 1)
    order = fitting_order(np.transpose(like, last), like, "tflite")
    assert order is not None
    assert np.array_equal(np.transpose(np.transpose(like, last), order), like)


def test_an_order_is_only_looked_for_where_it_can_be() -> None:
    x = np.zeros((2, 3, 4))
    assert fitting_order(x, x, "onnx") == ()
    assert fitting_order(x, np.zeros((4, 3, 2)), "onnx") is None
    assert fitting_order(x, np.zeros((2, 3, 5)), "tflite") is None


@pytest.mark.litert
def test_onnx_and_tflite_of_one_plan_are_near_everywhere(tmp_path: Path) -> None:
    for target, end in (("ort-x86-vnni", "onnx"), ("tflite-x86", "tflite")):
        digits(target=target, out=tmp_path / f"d.{end}")
    report = diff(
        tmp_path / "d.onnx",
        tmp_path / "d.tflite",
        data=DIGITS / "test.npz",
        config=DIGITS / "qcompile.toml",
        reference=DIGITS / "digits.onnx",
    )
    assert report.grids == ()
    assert report.retyped == 10
    assert report.nodes == ()
    assert len(report.layers) == 10
    assert marked(report) == []
    assert all((layer.sqnr_db or 0) > 35 for layer in report.layers)
    assert any("built-in kernels" in str(note) for note in report.notes)


@pytest.mark.litert
def test_two_tflite_files_are_compared(tmp_path: Path) -> None:
    for name, ranges in (("a", "minmax"), ("b", "entropy")):
        digits(target="tflite-x86", out=tmp_path / f"{name}.tflite", ranges=ranges)
    report = diff(
        tmp_path / "a.tflite",
        tmp_path / "b.tflite",
        data=DIGITS / "test.npz",
        config=DIGITS / "qcompile.toml",
    )
    assert report.layers[0].value == "input"
    assert not report.same
    assert {grid.value for grid in report.grids} >= {"02_Relu"}


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two builds of a model with channels of very different reach, one of them equalized."""
    folder = tmp_path_factory.mktemp("scaled")
    reach = np.geomspace(1, 3000, 8, dtype=np.float32)
    first, second = weights(1, 8, 3, 3, 3), weights(2, 4, 8, 3, 3)
    model = text_model(
        """g (float[N, 3, 8, 8] x) => (float[N, 4] y) {
            c = Conv (x, w)
            r = Relu (c)
            d = Conv (r, v)
            y = ReduceMean <axes = [2, 3], keepdims = 0> (d)
        }""",
        {"w": first * reach.reshape(-1, 1, 1, 1), "v": second / reach.reshape(-1, 1, 1)},
    )
    path = saved(model, folder)
    np.savez(folder / "data.npz", x=pictures(24))
    options = {"data": folder / "data.npz", "granularity": "tensor", "scheme": "w8a8"}
    built(path, out=folder / "plain.onnx", **options)
    result = built(path, out=folder / "equal.onnx", effort="balanced", **options)
    assert "equalize" in result.plan.transforms
    return folder


def test_values_that_a_transform_scaled_are_compared_unscaled(scaled: Path) -> None:
    against = diff(scaled / "model.onnx", scaled / "equal.onnx", data=scaled / "data.npz")
    assert {layer.value for layer in against.layers} > {"r", "d"}
    assert all(layer.sqnr_db is not None and layer.sqnr_db > 15 for layer in against.layers)
    reference = scaled / "model.onnx"
    both = diff(
        scaled / "plain.onnx", scaled / "equal.onnx", data=scaled / "data.npz", reference=reference
    )
    here = next(layer for layer in both.layers if layer.value == "r")
    assert here.second_sqnr_db is not None and here.second_sqnr_db > 15


def test_without_the_float_model_scaled_layers_are_not_compared(scaled: Path) -> None:
    report = diff(scaled / "plain.onnx", scaled / "equal.onnx", data=scaled / "data.npz")
    assert report.layers == ()
    assert report.accuracy is not None
    (note,) = [note for note in report.notes if note.level == "warning"]
    assert "scaled the values inside equal.onnx" in str(note)
    same = diff(scaled / "equal.onnx", scaled / "equal.onnx", data=scaled / "data.npz")
    assert all(layer.identical for layer in same.layers)
    assert same.layers
