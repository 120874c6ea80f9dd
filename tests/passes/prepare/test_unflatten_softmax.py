"""Softmax comes out of its reshapes where it is over the last axis alone."""

import numpy as np
import pytest

from qcompile.passes.prepare.unflatten_softmax import UnflattenSoftmax
from tests.passes.prepare.checking import changed, ops, parse, unchanged

PASS = UnflattenSoftmax()
TARGETS = {"flat": np.array([-1, 6]), "back": np.array([2, 4, 6]), "other": np.array([2, 8, 3])}


def steps(text: str, shape: str = "2, 4, 6", out: str = "2, 4, 6", more: str = ""):
    return parse(f"g (float[{shape}] x) => (float[{out}] y{more}) {{ {text} }}", TARGETS)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize("flatten", ["Flatten<axis = 2>(x)", "Reshape(x, flat)"])
@pytest.mark.parametrize("axis", [1, -1])
def test_static_shapes(op, flatten, axis):
    text = f"f = {flatten} s = {op}<axis = {axis}>(f) y = Reshape(s, back)"
    assert ops(changed(PASS, steps(text))) == [op]


def test_target_computed_from_the_shape_of_x():
    text = "t = Shape(x) f = Flatten<axis = 2>(x) s = Softmax(f) y = Reshape(s, t)"
    assert ops(changed(PASS, steps(text, "N, 4, 6", "N, 4, 6"))) == ["Softmax"]


@pytest.mark.parametrize(
    "text",
    [
        "f = Flatten<axis = 1>(x) s = Softmax(f) y = Reshape(s, back)",  # over two axes of x
        "f = Flatten<axis = 2>(x) s = Softmax<axis = 0>(f) y = Reshape(s, back)",
        "f = Flatten<axis = 2>(x) s = Relu(f) y = Reshape(s, back)",
    ],
)
def test_left_alone(text):
    unchanged(PASS, steps(text))


def test_another_shape_is_left():
    text = "f = Flatten<axis = 2>(x) s = Softmax(f) y = Reshape(s, other)"
    unchanged(PASS, steps(text, out="2, 8, 3"))


def test_intermediate_read_elsewhere_is_left():
    text = "f = Flatten<axis = 2>(x) s = Softmax(f) y = Reshape(s, back) z = Neg(s)"
    unchanged(PASS, steps(text, more=", float[8, 6] z"))
