"""A large model beside its weights is the same model."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core.on_disk import LARGE
from qcompile.targets.onnxruntime import executor, split_file
from qcompile.targets.onnxruntime.executor import OrtExecutor, open_file
from tests.passes.prepare.checking import parse

SIDE = 600
TEXT = """
net (float[N, 600] x) => (float[N, 600] y) {
    a = MatMul (x, w)
    b = MatMul (a, v)
    y = Add (b, c)
}"""


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (split_file, executor):
        monkeypatch.setattr(module, "LEAST", LARGE)


@pytest.fixture
def model() -> ir.Model:
    rng = np.random.default_rng(0)
    w, v = (rng.standard_normal((SIDE, SIDE), np.float32) / 24 for _ in range(2))
    arrays = {"w": w, "v": v, "c": rng.standard_normal(SIDE, np.float32)}
    model = parse(TEXT, arrays)
    for name, array in arrays.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


def _saved(model: ir.Model, folder: Path) -> Path:
    path = folder / "float.onnx"
    onnx.save(ir.to_proto(model), path)
    return path


def test_the_same_message_in_two_files(model: ir.Model, tmp_path: Path) -> None:
    path = _saved(model, tmp_path)
    folder = tmp_path / "parts"
    folder.mkdir()
    made = split_file.split_file(path, folder)
    assert made is not None and made.stat().st_size < LARGE
    whole, parts = onnx.load(path), onnx.load(made)
    for one, other in zip(whole.graph.initializer, parts.graph.initializer, strict=True):
        assert one.name == other.name
        np.testing.assert_array_equal(*map(onnx.numpy_helper.to_array, (one, other)))
    for message in (whole, parts):
        del message.graph.initializer[:]
    assert whole == parts


@pytest.mark.parametrize("lean", [False, True])
def test_it_computes_the_same(model: ir.Model, tmp_path: Path, lean: bool) -> None:
    path = _saved(model, tmp_path)
    x = np.random.default_rng(1).standard_normal((5, SIDE), np.float32)
    opened = open_file(path, lean=lean).run({"x": x})[0]
    np.testing.assert_array_equal(opened, OrtExecutor().load(model).run({"x": x})[0])


def test_external_weights_stay_where_they_are(model: ir.Model, tmp_path: Path) -> None:
    path = tmp_path / "float.onnx"
    ir.save(model, path, external_data="float.data")
    with path.open("ab") as file:  # a field that nobody knows, to make the file large
        file.write(b"\xca\x3e" + b"\x80\x80\x80\x01" + bytes(2 << 20))
    folder = tmp_path / "parts"
    folder.mkdir()
    assert split_file.split_file(path, folder) is None


@pytest.mark.parametrize("content", [bytes(2 << 20), b"\x0a\xff\xff\xff\x0f" + bytes(2 << 20)])
def test_what_is_no_message_is_left_to_the_runtime(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "float.onnx"
    path.write_bytes(content)
    assert split_file.split_file(path, tmp_path) is None


def test_a_large_graph_reads_the_weights_where_they_are(
    model: ir.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(1).standard_normal((5, SIDE), np.float32)
    usual = OrtExecutor().load(model)
    monkeypatch.setattr(executor, "_ONE_MESSAGE", LARGE)
    shared = OrtExecutor().load(model)
    assert len(shared.kept) == 2 and not usual.kept
    np.testing.assert_allclose(
        shared.run({"x": x})[0], usual.run({"x": x})[0], rtol=1e-5, atol=1e-5
    )
    inside = OrtExecutor().load(model, ["a"])  # the other weight is not needed
    np.testing.assert_allclose(inside.run({"x": x})[0], _inside(model, x), rtol=1e-5, atol=1e-5)


def _inside(model: ir.Model, x: np.ndarray) -> np.ndarray:
    weight = model.graph.initializers["w"].const_value
    assert weight is not None
    return np.asarray(x @ weight.numpy())
