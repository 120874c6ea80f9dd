"""Nodes that are called in a way their operator does not allow; and bytes that mean nothing."""

import logging
import random
from pathlib import Path

import onnx
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.build import parse, save
from tests.compiler.importers.test_adapters import CASES


def refusal(proto: onnx.ModelProto, folder: Path) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(proto, folder))
    assert caught.value.code is Code.MODEL_INVALID
    return caught.value


def relu() -> onnx.ModelProto:
    return parse("g (float[2] x) => (float[2] y) { [n] y = Relu(x) }")


def test_attribute_of_the_wrong_type(tmp_path: Path) -> None:
    text = "g (float[2,3] x) => (float[3,2] y) { [n] y = Transpose<perm=1>(x) }"
    error = refusal(parse(text), tmp_path)
    assert error.node == "n"
    assert error.message == "attribute perm is of type INT, not INTS"


def test_attribute_without_a_type(tmp_path: Path) -> None:
    proto = relu()
    proto.graph.node[0].attribute.add(name="what")
    assert "no type" in refusal(proto, tmp_path).message


def test_required_attribute_is_missing(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[4] y) { [n] y = Concat(x, x) }")
    assert "axis" in refusal(proto, tmp_path).message


def test_too_few_and_too_many_inputs(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [n] y = Add(x) }")
    assert "1 inputs" in refusal(proto, tmp_path).message
    proto = parse("g (float[2] x) => (float[2] y) { [n] y = Relu(x, x) }")
    assert "2 inputs" in refusal(proto, tmp_path).message


def test_too_many_outputs(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [n] y, z = Relu(x) }")
    assert "2 outputs" in refusal(proto, tmp_path).message


@pytest.mark.parametrize("data_type", [0, 99])
def test_element_type_that_does_not_exist(data_type: int, tmp_path: Path) -> None:
    proto = parse("g (float[1] x) => (float[1] y) <float[1] w = {1}> { y = Add(x, w) }")
    proto.graph.initializer[0].data_type = data_type
    assert "initializer w" in refusal(proto, tmp_path).message
    proto = relu()
    proto.graph.input[0].type.tensor_type.elem_type = data_type
    assert "input x" in refusal(proto, tmp_path).message


def test_input_without_a_type(tmp_path: Path) -> None:
    proto = relu()
    proto.graph.input[0].ClearField("type")
    assert "input x" in refusal(proto, tmp_path).message


def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = save(relu(), tmp_path)
    path.write_bytes(path.read_bytes().replace(b"\x0a\x01x", b"\x0a\x01\xe7"))
    with pytest.raises(QCompileError, match="UTF-8") as caught:
        load_onnx(path)
    assert caught.value.code is Code.MODEL_INVALID


def test_damaged_files_never_end_in_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Models of every adapter's test with a few bytes changed: a model still, or a coded error."""
    monkeypatch.setattr(logging.getLogger("onnx_ir"), "disabled", True)  # it remarks on each
    rng = random.Random(20240611)
    files = [parse(text, opset=opset).SerializeToString() for opset, text in CASES.values()]
    path = tmp_path / "m.onnx"
    taken = refused = 0
    for _ in range(800):
        data = bytearray(rng.choice(files))
        for _ in range(rng.choice((1, 1, 1, 3))):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            load_onnx(path)
            taken += 1
        except QCompileError:
            refused += 1
    assert taken > 20
    assert refused > 400
