"""Channels that only depthwise layers read fill the range; weights keep every integer."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core import graph as g
from qcompile.core.errors import QCompileError
from qcompile.core.numerics.affine import quantize, symmetric_params
from qcompile.passes.transform.apply import changed_values
from qcompile.passes.transform.spread import LEAST, Spread, find, request
from tests.passes.planning import EXECUTOR
from tests.passes.prepare.checking import changed, parse, rand, unchanged
from tests.passes.transform.gathering import gather, samples
from tests.passes.transform.test_equalize import uneven

DEPTHWISE = "y = Conv <group = 4> (d, w2, b2)"


def net(steps: str = "d = Relu (c)", reader: str = DEPTHWISE, **constants: np.ndarray) -> ir.Model:
    weights = {
        "w": uneven(4, 3, 3, 3),
        "b": rand(4),
        "w2": rand(4, 1, 3, 3),
        "b2": rand(4),
        **constants,
    }
    text = f"g (float[N, 3, 8, 8] x) => (float[] y) {{ c = Conv (x, w, b) {steps} {reader} }}"
    return parse(text, weights)


def found(model: ir.Model, granularity: str | None = None) -> dict[str, np.ndarray]:
    return find(model, gather(model, request(model)), granularity)


def reach_in(model: ir.Model) -> np.ndarray:
    """How far each channel of what the depthwise layer reads reaches."""
    gathered = gather(model, request(model))
    (statistic,) = gathered[list(model.graph)[-1].inputs[0].name].values()
    return statistic.absmax


@pytest.mark.parametrize("steps", ["d = Relu (c)", "r = Relu (c) d = Identity (r)"])
def test_every_channel_reaches_as_far_as_the_widest(steps):
    model = net(steps, w=uneven(4, 3, 3, 3) * np.float32(0.1))
    factors = found(model)
    assert list(factors) == ["c"]
    after = changed(Spread(factors), model)
    reach = reach_in(after)
    held = factors["c"] <= LEAST
    assert np.allclose(reach[~held], reach.max(), rtol=1e-5)


def test_weights_keep_their_integers():
    model = net()
    after = changed(Spread(found(model)), model)
    for name in ("w", "w2"):
        before, now = (g.constant(m.graph.initializers[name]) for m in (model, after))
        integers = []
        for array in (before, now):
            scale, zero = symmetric_params(np.abs(array).max(axis=(1, 2, 3)), "int8")
            integers.append(quantize(array, scale, zero, "int8", 0))
        assert np.abs(integers[0].astype(int) - integers[1]).max() <= 1  # a tie, at most
        assert np.mean(integers[0] != integers[1]) < 0.05


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 20))
def test_the_function_stays_with_a_clip(seed, limit):
    limits = {"low": np.float32(0), "high": np.float32(limit)}
    model = net("d = Clip (c, low, high)", w=uneven(4, 3, 3, 3, seed=seed) * 0.05, **limits)
    statistics = gather(model, request(model))
    factors = find(model, statistics)
    after = model.clone()
    Spread(factors)(after)
    reach = reach_in(model)
    for key, array in factors.items():
        assert key == "c"
        assert np.all(array[reach >= limit] == 1)
        assert np.all(array >= np.float32(LEAST))
    before, now = EXECUTOR.load(model), EXECUTOR.load(after)
    for feed in samples(model):  # those that the reach was seen on
        a, b = before.run(feed)[0], now.run(feed)[0]
        assert np.allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "reader",
    [
        "y = Conv (d, wide, b2)",
        "e = Conv <group = 4> (d, w2, b2) f = Conv (d, wide, b2) s = ReduceMean(e) y = Add (f, s)",
        "y = Sigmoid (d)",
    ],
    ids=["a dense layer", "a dense layer too", "no layer"],
)
def test_what_others_read_is_left_alone(reader):
    model = net(reader=reader, wide=rand(4, 4, 3, 3))
    assert found(model) == {}
    unchanged(Spread(), model)


def test_nothing_is_free_with_one_scale_a_weight():
    assert found(net(), "tensor") == {}


def test_a_silent_channel_is_left():
    weight = uneven(4, 3, 3, 3)
    weight[1] = 0
    model = net(w=weight, b=np.asarray([1, -1, 1, 1], np.float32))
    assert found(model)["c"][1] == 1


def test_changed_values_and_wrong_names():
    model = net()
    assert changed_values(model, ["c"]) == {"c", "d"}
    with pytest.raises(QCompileError):
        Spread({"nothing": np.ones(4, np.float32)})(model)


def test_a_second_run_changes_nothing():
    model = net()
    factors = found(model)
    once = changed(Spread(factors), model)
    assert not Spread(factors)(once).modified
