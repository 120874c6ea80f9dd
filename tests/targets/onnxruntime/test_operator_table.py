"""Every line of the operator table against ONNX Runtime's own optimized graph."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.lower import lower
from tests.targets.onnxruntime.one_op import (
    PICTURE,
    TARGET,
    Build,
    arg_max,
    binary,
    concat,
    dynamic,
    ints,
    split_read_once,
    table_gather,
    unary,
    weighted,
    where,
    with_indices,
)
from tests.targets.onnxruntime.qdq_models import optimize

UPSCALE = np.array([1, 1, 2, 2], np.float32)
KERNEL = {"kernel_shape": [2, 2]}
RELU, RELU6 = ("Relu",), ("Clip", 0, 6)
CONV = ("Conv", (1, 8, 6, 6), (8, 8, 3, 3), 0)
GEMM = ("Gemm", (4, 8), (8, 16), 1)

INTEGER: list[tuple[str, str, Build]] = [
    ("Conv", "per-tensor", weighted(*CONV[:3], None)),
    ("Conv", "per-channel", weighted(*CONV)),
    ("Conv", "u8 weights", weighted(*CONV, dtype="uint8")),
    ("Conv", "u8 weights per-tensor", weighted(*CONV[:3], None, dtype="uint8")),
    ("Conv", "no bias", weighted(*CONV, bias=None)),
    ("Conv", "float bias", weighted(*CONV, bias="float32")),
    ("Conv", "1-D", weighted("Conv", (1, 8, 6), (8, 8, 3), 0)),
    ("Conv", "3-D", weighted("Conv", (1, 8, 5, 5, 5), (8, 8, 3, 3, 3), 0)),
    ("Conv", "grouped", weighted("Conv", (1, 8, 6, 6), (8, 4, 3, 3), 0, group=2)),
    ("Conv", "depthwise", weighted("Conv", (1, 8, 6, 6), (8, 1, 3, 3), 0, group=8)),
    ("Conv", "depth multiplier", weighted("Conv", (1, 8, 6, 6), (16, 1, 3, 3), 0, group=8)),
    ("Conv", "auto_pad", weighted(*CONV, auto_pad="SAME_UPPER")),
    ("Conv", "padded", weighted(*CONV, pads=[1] * 4, strides=[2, 2], dilations=[2, 2])),
    ("Conv", "dynamic shape", weighted("Conv", ("N", 8, "H", "W"), (8, 8, 3, 3), 0)),
    ("Conv", "Relu", weighted(*CONV, then=RELU)),
    ("Conv", "Clip at the range", weighted(*CONV, then=RELU6, scale=6 / 255)),
    ("Conv", "Clip above the range", weighted(*CONV, then=RELU6, scale=5 / 255)),
    ("Conv", "opset 13", weighted(*CONV, opset=13)),
    ("Gemm", "per-channel", weighted(*GEMM)),
    ("Gemm", "per-tensor", weighted(*GEMM[:3], None)),
    ("Gemm", "transB", weighted("Gemm", (4, 8), (16, 8), 0, transB=1)),
    ("Gemm", "transB per-tensor", weighted("Gemm", (4, 8), (16, 8), None, transB=1)),
    ("Gemm", "transA", weighted("Gemm", (8, 4), (8, 16), 1, transA=1)),
    ("Gemm", "u8 weights", weighted(*GEMM, dtype="uint8")),
    ("Gemm", "no bias", weighted(*GEMM, bias=None)),
    ("Gemm", "float bias", weighted(*GEMM, bias="float32")),
    ("Gemm", "Relu", weighted(*GEMM, then=RELU)),
    ("Gemm", "float output", weighted(*GEMM, quantized=False)),
    ("Gemm", "opset 13", weighted(*GEMM, opset=13)),
    ("MatMul", "rank 2", weighted("MatMul", (4, 8), (8, 16), 1, None)),
    ("MatMul", "rank 3", weighted("MatMul", (2, 4, 8), (8, 16), 1, None)),
    ("MatMul", "rank 4", weighted("MatMul", (1, 2, 4, 8), (8, 16), 1, None)),
    ("MatMul", "per-tensor", weighted("MatMul", (2, 4, 8), (8, 16), None, None)),
    ("MatMul", "u8 weights", weighted("MatMul", (2, 4, 8), (8, 16), 1, None, "uint8")),
    ("MatMul", "stack of weights", weighted("MatMul", (2, 4, 8), (2, 8, 16), None, None)),
    ("MatMul", "dynamic shape", weighted("MatMul", ("N", "S", 8), (8, 16), 1, None)),
    ("MatMul", "float output", weighted("MatMul", (2, 4, 8), (8, 16), 1, None, quantized=False)),
    ("MatMul", "Relu", weighted("MatMul", (4, 8), (8, 16), 1, None, then=RELU)),
    ("MatMul", "bias rank 2", weighted("MatMul", (4, 8), (8, 16), 1)),
    ("MatMul", "bias rank 3", weighted("MatMul", (2, 4, 8), (8, 16), 1)),
    ("MatMul", "bias rank 4", weighted("MatMul", (1, 2, 4, 8), (8, 16), 1)),
    ("MatMul", "bias, Relu", weighted("MatMul", (2, 4, 8), (8, 16), 1, then=RELU)),
    ("MatMul", "bias, dynamic shape", weighted("MatMul", ("N", "S", 8), (8, 16), 1)),
    ("MatMul", "activations rank 2", binary("MatMul", (4, 8), (8, 4))),
    ("MatMul", "activations rank 3", binary("MatMul", (2, 4, 8), (2, 8, 4))),
    ("MatMul", "activations rank 4", binary("MatMul", (1, 2, 4, 8), (1, 2, 8, 4))),
    ("Add", "activations", binary("Add")),
    ("Add", "broadcast", binary("Add", PICTURE, (1, 4, 1, 1))),
    ("Add", "constant", binary("Add", PICTURE, (1, 4, 1, 1), "uint8")),
    ("Add", "constant first", binary("Add", PICTURE, (1, 4, 1, 1), "uint8", swap=True)),
    ("Add", "scalar", binary("Add", PICTURE, (), "uint8")),
    ("Add", "Relu", binary("Add", then="Relu")),
    ("Mul", "activations", binary("Mul")),
    ("Mul", "broadcast", binary("Mul", PICTURE, (1, 4, 1, 1))),
    ("Mul", "constant", binary("Mul", PICTURE, (1, 4, 1, 1), "uint8")),
    ("Mul", "Relu", binary("Mul", then="Relu")),
    ("Where", "computed", where("computed", "computed")),
    ("Where", "constant left", where("constant", "computed")),
    ("Where", "constant right", where("computed", "constant")),
    ("LeakyRelu", "", unary("LeakyRelu")),
    ("Sigmoid", "", unary("Sigmoid")),
    ("Softmax", "last axis", unary("Softmax", axis=-1)),
    ("Softmax", "axis 1", unary("Softmax", axis=1)),
    ("Softmax", "opset 13", unary("Softmax", opset=13)),
    ("AveragePool", "2-D", unary("AveragePool", **KERNEL)),
    ("AveragePool", "1-D", unary("AveragePool", (1, 4, 6), kernel_shape=[2])),
    ("AveragePool", "3-D", unary("AveragePool", (1, 4, 6, 6, 6), kernel_shape=[2, 2, 2])),
    ("AveragePool", "ceil", unary("AveragePool", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)),
    ("AveragePool", "pads", unary("AveragePool", pads=[1] * 4, count_include_pad=1, **KERNEL)),
    ("AveragePool", "auto_pad", unary("AveragePool", auto_pad="SAME_UPPER", **KERNEL)),
    ("GlobalAveragePool", "2-D", unary("GlobalAveragePool")),
    ("GlobalAveragePool", "1-D", unary("GlobalAveragePool", (1, 4, 6))),
    ("GlobalAveragePool", "3-D", unary("GlobalAveragePool", (1, 4, 6, 6, 6))),
    ("MaxPool", "2-D", unary("MaxPool", **KERNEL)),
    ("MaxPool", "1-D", unary("MaxPool", (1, 4, 6), kernel_shape=[2])),
    ("MaxPool", "3-D", unary("MaxPool", (1, 4, 6, 6, 6), kernel_shape=[2, 2, 2])),
    ("MaxPool", "padded", unary("MaxPool", pads=[1] * 4, dilations=[2, 2], ceil_mode=1, **KERNEL)),
    ("ReduceMax", "", unary("ReduceMax", PICTURE, ints(2, 3))),
    ("ReduceMin", "", unary("ReduceMin", PICTURE, ints(2, 3))),
    ("ArgMax", "", arg_max),
    ("Concat", "axis 0", concat(2, 0)),
    ("Concat", "axis 1", concat(3, 1)),
    ("Concat", "last axis", concat(2, -1)),
    ("Concat", "constant", concat(2, 1, constant=True)),
    ("Concat", "Relu", concat(2, 1, then="Relu")),
    ("Split", "equal", unary("Split", PICTURE, outputs=2, axis=1, num_outputs=2)),
    ("Split", "unequal", unary("Split", PICTURE, ints(1, 3), outputs=2, axis=1)),
    ("Reshape", "", unary("Reshape", PICTURE, ints(0, -1))),
    ("Flatten", "", unary("Flatten")),
    ("Squeeze", "axes", unary("Squeeze", (1, 4, 1, 6), ints(2))),
    ("Squeeze", "all", unary("Squeeze", (1, 4, 1, 6))),
    ("Unsqueeze", "", unary("Unsqueeze", PICTURE, ints(0))),
    ("Transpose", "", unary("Transpose", perm=[0, 2, 3, 1])),
    ("Slice", "", unary("Slice", PICTURE, ints(0), ints(2), ints(1))),
    ("Slice", "backwards", unary("Slice", PICTURE, ints(5), ints(0), ints(2), ints(-2))),
    ("Gather", "", unary("Gather", PICTURE, ints(0, 2), axis=1)),
    ("Gather", "from a table", table_gather),
    ("GatherElements", "", unary("GatherElements", (3, 3), np.zeros((2, 3), np.int64))),
    ("Expand", "", unary("Expand", (1, 4, 1, 6), ints(1, 4, 6, 6))),
    ("Tile", "", unary("Tile", PICTURE, ints(1, 2, 1, 1))),
    ("DepthToSpace", "DCR", unary("DepthToSpace", blocksize=2)),
    ("DepthToSpace", "CRD", unary("DepthToSpace", blocksize=2, mode="CRD")),
    ("Resize", "scales", unary("Resize", PICTURE, None, UPSCALE, mode="nearest")),
    ("Resize", "sizes", unary("Resize", PICTURE, None, None, ints(1, 4, 9, 9), mode="nearest")),
]

FLOAT: list[tuple[str, str, Build]] = [
    ("Conv", "Relu, other zero point", weighted(*CONV, then=RELU, zero=3)),
    ("Conv", "Clip inside the range", weighted(*CONV, then=RELU6, scale=7 / 255)),
    ("Conv", "no output quantizer", weighted(*CONV, quantized=False)),
    ("Gemm", "alpha", weighted(*GEMM, alpha=0.5)),
    ("Gemm", "beta", weighted(*GEMM, beta=0.5)),
    ("Gemm", "Relu, other zero point", weighted(*GEMM, then=RELU, zero=3)),
    ("Gemm", "float bias, float output", weighted(*GEMM, bias="float32", quantized=False)),
    ("MatMul", "stack, per-channel", weighted("MatMul", (2, 4, 8), (2, 8, 16), 2, None)),
    ("MatMul", "float bias, Relu", weighted("MatMul", (2, 4, 8), (8, 16), 1, "float32", then=RELU)),
    ("Add", "s8 constant", binary("Add", PICTURE, (1, 4, 1, 1), "int8")),
    ("Add", "float constant", binary("Add", PICTURE, (1, 4, 1, 1), "float32")),
    ("Add", "Relu, other zero point", binary("Add", then="Relu", zero=3)),
    ("Mul", "s8 constant", binary("Mul", PICTURE, (1, 4, 1, 1), "int8")),
    ("Split", "one output unread", split_read_once),
    ("MaxPool", "indices read", with_indices("MaxPool", **KERNEL)),
    ("Resize", "linear", unary("Resize", PICTURE, None, UPSCALE, mode="linear")),
    ("Resize", "cubic", unary("Resize", PICTURE, None, UPSCALE, mode="cubic")),
]

MOVERS = [op for op, rule in TARGET.ops.items() if rule.same_parameters]

NORM = [np.ones(4, np.float32), np.zeros(4, np.float32)]
NO_KERNEL: dict[str, Build] = {
    "Abs": unary("Abs"),
    "BatchNormalization": unary("BatchNormalization", PICTURE, *NORM, *NORM),
    "Ceil": unary("Ceil"),
    "Clip": unary("Clip", PICTURE, np.float32(0), np.float32(6)),
    "ConvTranspose": weighted("ConvTranspose", (1, 8, 6, 6), (8, 8, 3, 3), 1),
    "CumSum": unary("CumSum", PICTURE, np.int64(1)),
    "Div": binary("Div"),
    "Elu": unary("Elu"),
    "Erf": unary("Erf"),
    "Exp": unary("Exp"),
    "GatherND": unary("GatherND", (3, 3), np.zeros((2, 1), np.int64), same=True),
    "Gelu": unary("Gelu"),
    "GlobalMaxPool": unary("GlobalMaxPool", same=True),
    "HardSigmoid": unary("HardSigmoid"),
    "HardSwish": unary("HardSwish"),
    "InstanceNormalization": unary("InstanceNormalization", PICTURE, *NORM),
    "LayerNormalization": unary("LayerNormalization", (2, 4), *NORM),
    "Log": unary("Log"),
    "LogSoftmax": unary("LogSoftmax"),
    "Max": binary("Max"),
    "Min": binary("Min"),
    "Mish": unary("Mish"),
    "Neg": unary("Neg"),
    "PRelu": binary("PRelu", PICTURE, (4, 1, 1), "uint8"),
    "Pad": unary("Pad", PICTURE, ints(0, 0, 1, 1, 0, 0, 1, 1), same=True),
    "Pow": binary("Pow"),
    "Reciprocal": unary("Reciprocal"),
    "ReduceMean": unary("ReduceMean", PICTURE, ints(2, 3)),
    "ReduceSum": unary("ReduceSum", PICTURE, ints(2, 3)),
    "Relu": unary("Relu", same=True),
    "Selu": unary("Selu"),
    "Softplus": unary("Softplus"),
    "Softsign": unary("Softsign"),
    "SpaceToDepth": unary("SpaceToDepth", blocksize=2, same=True),
    "Sqrt": unary("Sqrt"),
    "Sub": binary("Sub"),
    "Tanh": unary("Tanh"),
    "TopK": with_indices("TopK", ints(2)),
    "Trilu": unary("Trilu", (4, 4), same=True),
}
DECOMPOSED = {"HardSwish": "HardSigmoid", "Mish": "Softplus"}
"""Ops that the optimizer takes apart first -> a float part that then stands in the graph."""


def names(cases: list[tuple[str, str, Build]]) -> list[str]:
    return [f"{op}: {label}" if label else op for op, label, _ in cases]


def test_every_op_of_the_table_has_a_case() -> None:
    assert {op for op, _, _ in INTEGER} == set(TARGET.ops)
    assert set(NO_KERNEL) == set(TARGET.float_ops)


@pytest.mark.parametrize(("op", "label", "build"), INTEGER, ids=names(INTEGER))
def test_runs_in_integers(op: str, label: str, build: Build) -> None:
    optimized = optimize(build())
    assert optimized.runs_integer(TARGET.ops[op].kernels), optimized.ops()
    assert op in TARGET.ops[op].kernels or op not in optimized.ops()


@pytest.mark.parametrize(("op", "label", "build"), FLOAT, ids=names(FLOAT))
def test_what_the_rule_excludes_stays_float(op: str, label: str, build: Build) -> None:
    optimized = optimize(build())
    assert not optimized.runs_integer(TARGET.ops[op].kernels), optimized.ops()


@pytest.mark.parametrize("op", MOVERS)
def test_a_mover_needs_equal_parameters(op: str) -> None:
    first = next(build for case, _, build in INTEGER if case == op)
    model = first()
    changed = [i for i in model.graph.initializer if i.data_type == TensorProto.FLOAT][-1]
    changed.CopyFrom(onnx.numpy_helper.from_array(np.float32(0.3), changed.name))
    optimized = optimize(model)
    assert not optimized.runs_integer(TARGET.ops[op].kernels), optimized.ops()


@pytest.mark.parametrize("op", sorted(NO_KERNEL))
def test_has_no_integer_kernel(op: str) -> None:
    optimized = optimize(NO_KERNEL[op]())
    expected = DECOMPOSED.get(op, op)
    assert expected in optimized.ops()
    assert not optimized.runs_integer((expected, f"QLinear{expected}"))


def test_average_pool_with_dilations_does_not_load() -> None:
    model = unary("AveragePool", dilations=[2, 2], **KERNEL)()
    with pytest.raises(Exception, match="QLinearAveragePool"):
        optimize(model)


@pytest.mark.parametrize("axis", [None, 1], ids=["per-tensor", "per-channel"])
@pytest.mark.parametrize("shape", [(4, 8), (2, 4, 8)], ids=["rank 2", "rank 3"])
def test_dynamic_activations(shape: tuple[int, ...], axis: int | None) -> None:
    ops = optimize(dynamic("MatMul", shape, axis)()).ops()
    assert ops == list(TARGET.ops["MatMul"].dynamic)


def test_a_gemm_with_a_bias_has_a_dynamic_kernel_only_as_the_lowering_writes_it() -> None:
    model = dynamic("Gemm", (4, 8), 1, bias=True)()
    assert "Gemm" in optimize(model).ops()
    lowered = onnx.load_from_string(lower(ir.from_proto(model), load_target("ort-x86-vnni")))
    assert optimize(lowered).ops() == list(TARGET.ops["Gemm"].dynamic)
