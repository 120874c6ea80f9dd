"""Arithmetic element by element: broadcasting in any layout, constants, fused clamps."""

import numpy as np
import pytest

from qcompile.core.errors import QCompileError
from tests.targets.tflite.lowering import (
    check_float,
    check_integer,
    check_integer_graph,
    parse,
)

RNG = np.random.default_rng(7)
OPERATORS = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Max": "MAXIMUM", "Min": "MINIMUM"}


def random(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) + 0.2).astype(np.float32)


SHAPES = {
    "equal": ("2,3,4,5", "2,3,4,5"),
    "channel": ("2,3,4,5", "3,1,1"),
    "row": ("2,3,4,5", "5"),
    "both": ("2,1,4,5", "2,3,1,5"),
    "scalar": ("2,3,4,5", "1"),
}


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("op", OPERATORS)
def test_two_inputs(op: str, shapes: str) -> None:
    a, b = SHAPES[shapes]
    text = f"g (float[{a}] a, float[{b}] b) => (float[n] y) {{ y = {op}(a, b) }}"
    assert check_float(text).ops == [OPERATORS[op]]
    run = check_integer(text, share=0.02)
    assert OPERATORS[op] in run.ops


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 1, 1), (4,), (1,), ()])
@pytest.mark.parametrize("op", OPERATORS)
def test_constant_beside_a_picture(op: str, shape: tuple[int, ...]) -> None:
    """What is stored channels last meets constants in the order of ONNX."""
    text = f"""g (float[2,3,4,4] x) => (float[n] y) {{
        h = Conv(x, k, b) y = {op}(h, c) }}"""
    constants = {"k": random(3, 3, 1, 1), "b": random(3), "c": random(*shape)}
    run = check_float(text, constants)
    assert run.ops == ["CONV_2D", OPERATORS[op]]
    assert check_integer(text, constants, share=0.03).count["TRANSPOSE"] == 0


def test_computed_operand_of_lower_rank_beside_a_picture() -> None:
    text = """g (float[2,3,4,4] x, float[3,1,1] c) => (float[n] y) {
        h = Conv(x, k, b) y = Mul(c, h) }"""
    constants = {"k": random(3, 3, 1, 1), "b": random(3)}
    run = check_float(text, constants)
    assert run.count["TRANSPOSE"] == 0
    check_integer(text, constants, share=0.03)


def test_residual_block_has_no_transpose() -> None:
    text = """g (float[1,4,8,8] x) => (float[n] y) {
        a = Conv<pads=[1,1,1,1]>(x, k, b) r = Relu(a) c = Conv<pads=[1,1,1,1]>(r, k, b)
        s = Add(c, r) y = Relu(s) }"""
    constants = {"k": random(4, 4, 3, 3) / 4, "b": random(4)}
    for run in (check_float(text, constants), check_integer(text, constants, lsb=2, share=0.03)):
        assert run.ops == ["CONV_2D", "CONV_2D", "ADD"]


@pytest.mark.parametrize("op", ["Max", "Min"])
def test_three_operands_are_a_chain(op: str) -> None:
    text = f"g (float[2,3] a, float[2,3] b, float[3] c) => (float[n] y) {{ y = {op}(a, b, c) }}"
    assert check_float(text).ops == [OPERATORS[op]] * 2
    assert check_float(f"g (float[2,3] a) => (float[n] y) {{ b = Abs(a) y = {op}(b) }}").ops


PARAMETERS = {"s": np.float32(0.05), "q": np.int8(3)}


def test_unequal_parameters_are_made_equal_for_a_maximum() -> None:
    text = """g (int8[2,50] x, int8[2,50] z) => (int8[2,50] y) {
        a = DequantizeLinear(x, s, q) b = DequantizeLinear(z, t, q) c = Max(a, b)
        y = QuantizeLinear(c, s, q) }"""
    run = check_integer_graph(parse(text, {**PARAMETERS, "t": np.float32(0.03)}))
    assert run.ops == ["QUANTIZE", "MAXIMUM"]


def test_broadcast_shape_that_does_not_fit_is_not_our_error() -> None:
    with pytest.raises(Exception, match=r"(?i)incompatible|broadcast") as error:
        parse("g (float[2,3] a, float[2,4] b) => (float[n] y) { y = Add(a, b) }")
    assert not isinstance(error.value, QCompileError)
