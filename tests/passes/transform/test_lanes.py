"""Where channels come to lie, held against tensors whose elements say which channel they are of."""

import math

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.passes.transform.lanes import MOVERS, Lane
from tests.passes.prepare.checking import parse, run


def factorings(n: int) -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes of n elements."""
    divisors = [d for d in range(1, n + 1) if n % d == 0]
    return st.sampled_from(divisors).flatmap(
        lambda d: st.just((d,)) if d == n else factorings(n // d).map(lambda rest: (d, *rest))
    )


@given(st.data())
def test_a_reshape_moves_channels_or_refuses(data):
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    wanted = data.draw(factorings(math.prod(shape)))
    along = [1] * len(shape)
    along[axis] = -1
    of = np.broadcast_to(np.arange(shape[axis]).reshape(along), shape).reshape(wanted)
    node = ir.node("Reshape", [_value(shape)], outputs=[_value(wanted)])
    lane = MOVERS["Reshape"](node, Lane(0, axis, np.arange(shape[axis])))
    if lane is None:
        varying = [i for i in range(of.ndim) if (of != of.take([0], i)).any()]
        assert len(varying) != 1
        return
    along = [1] * of.ndim
    along[lane.axis] = -1
    assert np.array_equal(np.broadcast_to(lane.index.reshape(along), of.shape), of)


def _value(shape: tuple[int | str | None, ...]) -> ir.Value:
    return ir.Value(name="v", shape=ir.Shape(shape))


@pytest.mark.parametrize(
    ("shape", "axis", "wanted", "moved"),
    [
        (("N", 4, 3, 3), 1, ("N", 36), (1, np.repeat(np.arange(4), 9))),
        (("N", 3, 3, 4), 3, ("N", 36), (1, np.tile(np.arange(4), 9))),
        (("N", "S", 4), 2, ("M", 4), (1, np.arange(4))),
        (("N", 4, "S"), 1, ("N", "M"), None),
        (("N", "S", 4), 2, ("N", "S", 2, 2), None),
        (("N", 4), 1, ("M", 8), None),
    ],
)
def test_unknown_dimensions(shape, axis, wanted, moved):
    node = ir.node("Reshape", [_value(shape)], outputs=[_value(wanted)])
    lane = MOVERS["Reshape"](node, Lane(0, axis, np.arange(4)))
    assert (lane is None) == (moved is None)
    if lane is not None and moved is not None:
        assert lane.axis == moved[0]
        assert np.array_equal(lane.index, moved[1])


STEPS = [
    "y = ReduceMean <keepdims = 0> (x, axes)",
    "y = ReduceMax <keepdims = 1> (x, axes)",
    "y = Transpose <perm = [2, 1, 3, 0]> (x)",
    "y = Transpose (x)",
    "y = Squeeze (x, first)",
    "y = Pad (x, pads)",
    "y = Pad <mode = 'reflect'> (x, pads)",
    "y = Resize <mode = 'linear'> (x, none, scales)",
    "y = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (x)",
    "y = Abs (x)",
    "y = PRelu (x, slope)",
]


@pytest.mark.parametrize("step", STEPS)
def test_an_operator_commutes_with_factors_where_it_says(step):
    step = step.replace("'", '"')
    constants = {
        "axes": np.array([0, 3]),
        "first": np.array([0]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "none": np.zeros(0, np.float32),
        "scales": np.float32([1, 1, 2, 2]),
        "slope": np.float32([[[0.5]], [[-1]], [[2]]]),
    }
    plain = parse(f"g (float[1, 3, 4, 4] x) => (float[] y) {{ {step} }}", constants)
    scaled = parse(
        f"g (float[1, 3, 4, 4] o) => (float[] y) {{ x = Mul (o, f) {step} }}",
        {**constants, "f": np.float32([2, 8, 0.5]).reshape(3, 1, 1)},
    )
    (node,) = plain.graph
    lane = MOVERS[node.op_type](node, Lane(0, 1, np.arange(3)))
    assert lane is not None
    (y,), (z,) = run(plain), run(scaled)
    along = [1] * y.ndim
    along[lane.axis] = -1
    assert np.array_equal(y * np.float32([2, 8, 0.5])[lane.index].reshape(along), z)


@pytest.mark.parametrize(
    "step",
    [
        "y = ReduceMean (x, over)",
        "y = Pad (x, pads, one)",
        "y = Pad (x, wider)",
        "y = PRelu (x, x)",
        'y = Resize <mode = "linear", coordinate_transformation_mode = "tf_crop_and_resize"> '
        "(x, roi, scales)",
    ],
)
def test_an_operator_that_does_not_refuses(step):
    constants = {
        "over": np.array([1]),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "wider": np.array([0, 1, 0, 0, 0, 1, 0, 0]),
        "one": np.float32(1),
        "roi": np.float32([0, 0, 0, 0, 1, 1, 1, 1]),
        "scales": np.float32([1, 1, 2, 2]),
    }
    model = parse(f"g (float[1, 3, 4, 4] x) => (float[] y) {{ {step} }}", constants)
    (node,) = model.graph
    assert MOVERS[node.op_type](node, Lane(0, 1, np.arange(3))) is None
