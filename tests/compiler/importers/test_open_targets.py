"""Reshapes with one computed number that is not known get -1; any other stays as it is."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

from qcompile.compiler.importers.inference import infer

CONSTANTS = (
    "int64[1] zero = {0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, "
    "int64[1] four = {4}, int64[1] all = {-1}, int64[1] end = {9223372036854775807}, "
    "int64 first = {0}"
)


def parse(text: str, shape: str = "N, 3, 8") -> ir.Model:
    body = f'<ir_version: 10, opset_import: ["" : 21]> g (float[{shape}] x) => (float[] y)'
    model = onnx.parser.parse_model(f"{body} <{CONSTANTS}> {{ {text} }}")
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for index, node in enumerate(model.graph.node):
        node.name = f"n{index}"
    return ir.from_proto(model)


def run(model: ir.Model) -> np.ndarray:
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    (out,) = session.run(None, {"x": np.arange(5 * 24, dtype=np.float32).reshape(5, 3, 8)})
    return np.asarray(out)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (
            "s = Shape (x) b = Slice (s, zero, one) e = Slice (s, one, end) "
            "c = Slice (e, zero, one) "
            "t = Concat <axis = 0> (b, c, two, four) y = Reshape (x, t)",
            [-1, 3, 2, 4],
        ),
        (
            "s = Shape <end = 1> (x) b = Mul (s, four) t = Concat <axis = 0> (two, b, three) "
            "y = Reshape (x, t)",
            [2, -1, 3],
        ),
        (
            "s = Shape (x) b = Gather (s, first) c = Unsqueeze (b, zero) "
            "d = Slice (s, two, four) e = Sub (d, four) f = Slice (s, one, two) "
            "t = Concat <axis = 0> (c, e, f, two) u = Reshape (t, all) y = Reshape (x, u)",
            [-1, 4, 3, 2],
        ),
    ],
)
def test_one_open_number_becomes_minus_one(text: str, target: list[int]) -> None:
    model = parse(text)
    before = run(model)
    infer(model)
    node = next(n for n in model.graph if n.op_type == "Reshape")
    assert node.inputs[1] is not None and node.inputs[1].const_value is not None
    assert node.inputs[1].const_value.numpy().tolist() == target
    assert [n.op_type for n in model.graph] == ["Reshape"]
    assert np.array_equal(before, run(model))


@pytest.mark.parametrize(
    "text",
    [
        "s = Shape (x) y = Reshape (x, s)",
        "s = Shape <end = 1> (x) t = Concat <axis = 0> (s, all) y = Reshape (x, t)",
        "s = Shape <end = 1> (x) t = Concat <axis = 0> (s, zero, four) y = Reshape (x, t)",
        "i = Cast <to = 7> (x) t = Reshape (i, all) y = Reshape (x, t)",
    ],
)
def test_others_are_left(text: str) -> None:
    model = parse(text, "N, M, 8")
    infer(model)
    node = list(model.graph)[-1]
    assert node.inputs[1] is not None and node.inputs[1].const_value is None
