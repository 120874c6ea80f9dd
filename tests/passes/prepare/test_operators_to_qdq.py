"""Operators on integers become operators between quantizers, within a step of their own output."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from qcompile.passes.prepare.operators_to_qdq import OperatorsToQDQ

RNG = np.random.default_rng(0)
XS, XZ, YS, YZ = np.float32(0.02), np.uint8(120), np.float32(0.05), np.uint8(128)
MS = "com.microsoft"
FLOAT, U8 = TensorProto.FLOAT, TensorProto.UINT8


def model(nodes, shape, out, out_type=U8, in_type=U8, **constants):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", in_type, shape)],
        [helper.make_tensor_value_info("y", out_type, out)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(MS, 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    proto = onnx.shape_inference.infer_shapes(proto)
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"
    return ir.from_proto(proto)


def run(m, x):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    raw = ir.to_proto(m).SerializeToString()
    return ort.InferenceSession(raw, options).run(None, {"x": x})[0]


def ints(*shape, low=0, high=256, kind=np.uint8):
    return RNG.integers(low, high, shape).astype(kind)


def converted(m, x, expected, *, steps=1):
    before = run(m, x)
    the_pass = OperatorsToQDQ()
    assert the_pass(m).modified
    assert not the_pass(m).modified
    after = run(m, x)
    assert before.dtype == after.dtype
    if before.dtype == np.float32:
        assert np.abs(before - after).max() <= 1e-3 * np.abs(before).max()
    else:
        assert np.abs(before.astype(int) - after.astype(int)).max() <= steps
    assert expected in [n.op_type for n in m.graph]
    onnx.checker.check_model(ir.to_proto(m), full_check=True)
    return m


Y = {"ys": YS, "yz": YZ, "xs": XS, "xz": XZ}


@pytest.mark.parametrize("channels", [1, 4])
def test_convolution_with_scales_a_channel_and_a_bias(channels):
    node = helper.make_node(
        "QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], ["y"], pads=[1, 1, 1, 1]
    )
    scale = np.linspace(0.01, 0.03, channels).astype(np.float32)
    m = model(
        [node], [1, 3, 5, 5], [1, 4, 5, 5], **Y,
        w=ints(4, 3, 3, 3, low=-128, high=128, kind=np.int8),
        ws=scale, wz=np.zeros(channels, np.int8), b=ints(4, low=-900, high=900, kind=np.int32),
    )  # fmt: skip
    m = converted(m, ints(1, 3, 5, 5), "Conv")
    bias = next(n for n in m.graph if n.op_type == "DequantizeLinear" and n.inputs[0].name == "b")
    assert np.array_equal(bias.inputs[1].const_value.numpy().reshape(-1), XS * scale)


@pytest.mark.parametrize("op", ["QLinearAdd", "QLinearMul"])
def test_two_operands(op):
    node = helper.make_node(op, ["x", "xs", "xz", "x", "xs", "xz", "ys", "yz"], ["y"], domain=MS)
    converted(model([node], [2, 3], [2, 3], **Y), ints(2, 3), op.removeprefix("QLinear"))


def test_matmul_by_columns():
    node = helper.make_node("QLinearMatMul", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"])
    m = model(
        [node], [2, 6], [2, 4], **Y, w=ints(6, 4, low=-128, high=128, kind=np.int8),
        ws=np.linspace(0.01, 0.03, 4).astype(np.float32), wz=np.zeros(4, np.int8),
    )  # fmt: skip
    converted(m, ints(2, 6), "MatMul")


@pytest.mark.parametrize("quantized", [True, False])
def test_gemm(quantized):
    ends = ["ys", "yz"] if quantized else []
    names = ["x", "xs", "xz", "w", "ws", "wz", "b", *ends]
    node = helper.make_node("QGemm", names, ["y"], domain=MS, transB=1)
    m = model(
        [node], [2, 6], [2, 4], U8 if quantized else FLOAT, **Y,
        w=ints(4, 6, low=-128, high=128, kind=np.int8), ws=np.float32(0.01), wz=np.int8(0),
        b=ints(4, low=-900, high=900, kind=np.int32),
    )  # fmt: skip
    converted(m, ints(2, 6), "Gemm")


@pytest.mark.parametrize(
    ("op", "shape", "attributes"),
    [
        ("QLinearGlobalAveragePool", [1, 3, 1, 1], {}),
        ("QLinearAveragePool", [1, 3, 2, 2], {"kernel_shape": [3, 3]}),
        ("QLinearLeakyRelu", [1, 3, 4, 4], {"alpha": 0.2}),
        ("QLinearSigmoid", [1, 3, 4, 4], {}),
    ],
)
def test_one_operand(op, shape, attributes):
    names = ["x", "xs", "xz", "ys", "yz"]
    node = helper.make_node(op, names, ["y"], domain=MS, **attributes)
    converted(model([node], [1, 3, 4, 4], shape, **Y), ints(1, 3, 4, 4), op.removeprefix("QLinear"))


def test_concat():
    node = helper.make_node(
        "QLinearConcat", ["ys", "yz", "x", "xs", "xz", "x", "ws", "xz"], ["y"], domain=MS, axis=1
    )
    m = model([node], [2, 3], [2, 6], **Y, ws=np.float32(0.03))
    converted(m, ints(2, 3), "Concat")


def test_dynamic_products_read_what_their_integers_stand_for():
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z", "wz"], ["i"]),
        helper.make_node("Cast", ["i"], ["f"], to=FLOAT),
        helper.make_node("Mul", ["s", "ws"], ["k"]),
        helper.make_node("Mul", ["f", "k"], ["y"]),
    ]
    m = model(
        nodes, [2, 6], [2, 4], FLOAT, FLOAT, ws=np.float32(0.01), wz=np.int8(0),
        w=ints(6, 4, low=-128, high=128, kind=np.int8),
    )  # fmt: skip
    x = RNG.normal(size=(2, 6)).astype(np.float32)
    converted(m, x, "MatMul")
    assert "MatMulInteger" not in [n.op_type for n in m.graph]


def test_left_alone():
    computed = [
        helper.make_node("Abs", ["xs"], ["s"]),
        helper.make_node("QLinearAdd", ["x", "s", "xz"] * 2 + ["ys", "yz"], ["y"], domain=MS),
    ]
    last = helper.make_node(
        "QLinearGlobalAveragePool", ["x", "xs", "xz", "ys", "yz"], ["y"], domain=MS, channels_last=1
    )
    assert not OperatorsToQDQ()(model(computed, [2, 3], [2, 3], **Y)).modified
    assert not OperatorsToQDQ()(model([last], [1, 3, 4, 4], [1, 3, 1, 1], **Y)).modified
