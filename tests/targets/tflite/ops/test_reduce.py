"""Reductions over axes of values stored in any order."""

import numpy as np
import pytest

from tests.targets.tflite.lowering import check_float, check_integer, check_integer_graph, parse

OPERATORS = {
    "ReduceMean": "MEAN",
    "ReduceSum": "SUM",
    "ReduceMax": "REDUCE_MAX",
    "ReduceMin": "REDUCE_MIN",
}
CONSTANTS = {
    "k": np.random.default_rng(1).standard_normal((3, 3, 1, 1)).astype(np.float32),
    "b": np.zeros(3, np.float32),
}


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [1], [-1], [0, 2], [1, 3]])
@pytest.mark.parametrize("op", OPERATORS)
def test_of_a_picture(op: str, axes: list[int], keep: int) -> None:
    text = f"""g (float[2,3,4,5] x) => (float[n] y) {{
        h = Conv(x, k, b) y = {op}<keepdims={keep}>(h, axes) }}"""
    constants = {**CONSTANTS, "axes": np.asarray(axes)}
    run = check_float(text, constants, atol=1e-5)
    assert run.count["TRANSPOSE"] <= (keep == 0)  # what is left may lie in another order
    # SUM is wrong and REDUCE_MAX stops under the reference kernels.
    check_integer(text, constants, share=0.15, runtimes=("builtin",))


@pytest.mark.parametrize("op", OPERATORS)
def test_over_everything(op: str) -> None:
    text = f"g (float[2,3,4] x) => (float y) {{ y = {op}<keepdims=0>(x) }}"
    assert check_float(text, atol=1e-5).ops == [OPERATORS[op]]


def test_over_nothing() -> None:
    text = (
        "g (float[2,3] x) => (float[n] y) { h = Abs(x) y = ReduceSum<noop_with_empty_axes=1>(h) }"
    )
    assert check_float(text).count["SUM"] == 0


def test_maximum_gets_equal_parameters() -> None:
    text = """g (int8[2,50] x) => (int8[2,1] y) { a = DequantizeLinear(x, s, q)
        m = ReduceMax(a, axes) y = QuantizeLinear(m, t, q) }"""
    constants = {
        "s": np.float32(0.05),
        "t": np.float32(0.04),
        "q": np.int8(3),
        "axes": np.asarray([1]),
    }
    run = check_integer_graph(parse(text, constants), runtimes=("builtin", "xnnpack"))
    assert run.ops == ["QUANTIZE", "REDUCE_MAX"]
