"""Multiply-adds of a node equal those of a loop that counts them."""

import itertools

import numpy as np
import pytest

from qcompile.core.macs import macs
from tests.passes.prepare.checking import parse, rand


def of(body: str, x: str, y: str = "float[a, b]", **constants: np.ndarray) -> list[int]:
    model = parse(f"g ({x}) => ({y} y) {{ {body} }}", constants)
    return [macs(node) for node in model.graph]


def counted_conv(h: int, k: int, stride: int, cin: int, cout: int, group: int) -> int:
    """One multiply-add for each output, input channel of its group, and weight (padding too)."""
    out = (h - k) // stride + 1
    loops = (range(out), range(out), range(cout), range(cin // group), range(k), range(k))
    return sum(1 for _ in itertools.product(*loops))


@pytest.mark.parametrize(
    ("stride", "cin", "cout", "group"), [(1, 3, 5, 1), (2, 4, 4, 4), (1, 4, 8, 2)]
)
def test_conv(stride: int, cin: int, cout: int, group: int) -> None:
    w = rand(cout, cin // group, 3, 3)
    body = f"y = Conv <strides = [{stride}, {stride}], group = {group}> (x, w)"
    found = of(body, f"float[1, {cin}, 9, 9] x", "float[a, b, c, d]", w=w)
    assert found == [counted_conv(9, 3, stride, cin, cout, group)]


def test_conv_transpose_counts_what_goes_in() -> None:
    found = of(
        "y = ConvTranspose <strides = [2, 2]> (x, w)",
        "float[1, 3, 5, 5] x",
        "float[a, b, c, d]",
        w=rand(3, 4, 2, 2),
    )
    assert found == [5 * 5 * 3 * 4 * 2 * 2]


@pytest.mark.parametrize(
    ("attributes", "x", "w"),
    [
        ("", (2, 7), (7, 5)),
        ("<transA = 1>", (7, 2), (7, 5)),
        ("<transB = 1>", (2, 7), (5, 7)),
    ],
)
def test_gemm(attributes: str, x: tuple[int, int], w: tuple[int, int]) -> None:
    assert of(f"y = Gemm {attributes} (x, w)", f"float[{x[0]}, {x[1]}] x", w=rand(*w)) == [70]


@pytest.mark.parametrize(
    ("x", "w", "wanted"),
    [
        ((2, 7), (7, 5), 2 * 7 * 5),
        ((3, 2, 7), (7, 5), 3 * 2 * 7 * 5),
        ((3, 2, 7), (3, 7, 5), 3 * 2 * 7 * 5),
        ((7,), (7, 5), 7 * 5),
        ((2, 7), (7,), 2 * 7),
    ],
)
def test_matmul(x: tuple[int, ...], w: tuple[int, ...], wanted: int) -> None:
    rank = len(x) + len(w) - 2 if 1 in (len(x), len(w)) else max(len(x), len(w))
    y = f"float[{', '.join('abcd'[:rank])}]"
    dims = ", ".join(map(str, x))
    assert of("y = MatMul (x, w)", f"float[{dims}] x", y, w=rand(*w)) == [wanted]


def test_an_unknown_batch_counts_as_one() -> None:
    assert of("y = Gemm (x, w)", "float[n, 7] x", w=rand(7, 5)) == [35]


def test_other_ops_and_unknown_shapes_have_none() -> None:
    assert of("y = Add (x, x)", "float[4, 4] x") == [0]
    model = parse("g (float[4, 4] x) => (float[a, b] y) { y = MatMul (x, x) }")
    model.graph.node(0).outputs[0].shape = None
    assert macs(model.graph.node(0)) == 0
