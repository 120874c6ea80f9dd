"""Pools: every way of padding and counting, in floats and integers."""

import pytest

from qcompile.core.errors import QCompileError
from tests.targets.tflite.lowering import check_float, check_integer, lowered, parse


def pool(op: str, attributes: str, x: str = "1,4,9,10") -> str:
    return f"g (float[{x}] x) => (float[n] y) {{ y = {op}<{attributes}>(x) }}"


MAX = {
    "valid": "kernel_shape=[2,2], strides=[2,2]",
    "same": "kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]",
    "lopsided": "kernel_shape=[3,3], strides=[1,1], pads=[2,0,1,2]",
    "ceil": "kernel_shape=[2,3], strides=[2,2], ceil_mode=1",
    "upper": 'kernel_shape=[3,2], strides=[2,2], auto_pad="SAME_UPPER"',
    "lower": 'kernel_shape=[3,2], strides=[2,2], auto_pad="SAME_LOWER"',
}


@pytest.mark.parametrize("case", MAX)
def test_max(case: str) -> None:
    run = check_float(pool("MaxPool", MAX[case]))
    assert run.count["TRANSPOSE"] == 0
    assert check_integer(pool("MaxPool", MAX[case])).count["MAX_POOL_2D"] == 1


AVERAGE = {
    "valid": ("kernel_shape=[2,2], strides=[2,2]", ["AVERAGE_POOL_2D"]),
    "same": ("kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1]", ["AVERAGE_POOL_2D"]),
    "counted": (
        "kernel_shape=[3,3], strides=[1,1], pads=[1,1,1,1], count_include_pad=1",
        ["PAD", "AVERAGE_POOL_2D"],
    ),
    "lopsided": (
        "kernel_shape=[3,3], strides=[1,1], pads=[2,0,1,2]",
        ["PAD", "AVERAGE_POOL_2D", "MUL"],  # and QUANTIZE around it in integers
    ),
    "ceil": ("kernel_shape=[2,3], strides=[2,2], ceil_mode=1", None),
    "ceil_counted": (
        "kernel_shape=[3,3], strides=[2,2], ceil_mode=1, pads=[0,1,1,0], count_include_pad=1",
        None,
    ),
    "upper": ('kernel_shape=[3,2], strides=[2,2], auto_pad="SAME_UPPER"', ["AVERAGE_POOL_2D"]),
    "whole": ("kernel_shape=[9,10]", ["MEAN"]),
}


@pytest.mark.parametrize("case", AVERAGE)
def test_average(case: str) -> None:
    attributes, ops = AVERAGE[case]
    run = check_float(pool("AveragePool", attributes))
    assert ops is None or run.ops == ops
    # A mean of few integers is often a tie: LiteRT rounds halves away from zero, ONNX to even.
    check_integer(pool("AveragePool", attributes), share=0.3)


@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
def test_signals(op: str) -> None:
    text = pool(op, "kernel_shape=[3], strides=[2], pads=[1,1]", "2,3,11")
    assert check_float(text).count["TRANSPOSE"] == 0


@pytest.mark.parametrize(
    ("op", "operator"), [("GlobalAveragePool", "MEAN"), ("GlobalMaxPool", "REDUCE_MAX")]
)
def test_global(op: str, operator: str) -> None:
    text = f"g (float[2,3,4,5] x) => (float[n] y) {{ y = {op}(x) }}"
    assert check_float(text).ops == [operator]
    builtin = ("builtin", "xnnpack") if operator == "MEAN" else ("builtin",)
    assert operator in check_integer(text, share=0.1, runtimes=builtin).ops


def test_refused() -> None:
    with pytest.raises(QCompileError, match="dilation"):
        lowered(parse(pool("MaxPool", "kernel_shape=[2,2], dilations=[2,2]")))
    text = pool("MaxPool", "kernel_shape=[2,2,2]", "1,2,4,4,4")
    with pytest.raises(QCompileError, match="3 spatial dimensions"):
        lowered(parse(text))
    text = """g (float[1,2,4,4] x) => (float[n] y, int64[m] i) {
        y, i = MaxPool<kernel_shape=[2,2]>(x) }"""
    with pytest.raises(QCompileError, match="where the largest"):
        lowered(parse(text))
