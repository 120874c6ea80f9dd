"""AWQ: factors go where no float changes, make few bits keep more, and leave the rest alone."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.errors import QCompileError
from qcompile.passes.rounding.group_gptq import Grid
from qcompile.passes.transform.awq import Awq, best_factors, find, request, scalable
from tests.passes.prepare.checking import changed, inits, parse, rand, unchanged
from tests.passes.transform.gathering import gather


def gain(channels: int) -> np.ndarray:
    """One channel carries a hundred times what the others do."""
    array = np.abs(rand(channels, seed=7)) + 0.5
    array[1] *= 100
    return array


CONSTANTS = {
    "gain": gain(8),
    "shift": rand(8, seed=4),
    "w": rand(8, 6, seed=1),
    "v": rand(8, 6, seed=2),
    "u": rand(6, 4, seed=3),
    "t": rand(6, 8, seed=5),
    "axis": np.array([-1]),
    "two": np.float32(2),
}
RMS = (
    "q = Pow (x, two) m = ReduceMean (q, axis) s = Sqrt (m) i = Reciprocal (s) h = Mul (x, i) "
    "n = Mul (h, gain) "
)


def net(body: str) -> ir.Model:
    model = parse(f"g (float[N, 3, 8] x) => (float[] y) {{ {body} }}", CONSTANTS)
    for name in [n for n, v in model.graph.initializers.items() if not v.uses()]:
        del model.graph.initializers[name]
    return model


FACTORS = np.array([1, 8, 0.5, 2, 1, 1, 4, 1], np.float32)


@pytest.mark.parametrize(
    "body",
    [
        RMS + "y = MatMul (n, w)",
        RMS + "a = MatMul (n, w) b = MatMul (n, v) y = Add (a, b)",
        "n = LayerNormalization (x, gain, shift) y = MatMul (n, w)",
    ],
)
def test_gains_take_the_factors(body: str) -> None:
    """The float function stays, the channels are divided and the weights multiplied."""
    model = net(body)
    before = inits(model)
    after = changed(Awq({"n": FACTORS}), model, tolerance=1e-5)
    arrays = inits(after)
    assert np.allclose(arrays["gain"], before["gain"] / FACTORS)
    assert np.allclose(arrays["w"], before["w"] * FACTORS[:, None])
    unchanged(Awq({"n": FACTORS}), after)


def test_the_up_projection_takes_those_of_the_down_projection() -> None:
    """Through the product with the gate."""
    gate = "a = MatMul (x, w) s = Sigmoid (a) b = MatMul (x, v) p = Mul (s, b) "
    model = net(gate + "y = MatMul (p, u)")
    assert set(scalable(model.graph)) == {"p"}
    key = scalable(model.graph)["p"].key
    before = inits(model)
    after = changed(Awq({key: FACTORS[:6]}), model, tolerance=1e-5)
    assert np.allclose(inits(after)["v"], before["v"] / FACTORS[:6])
    assert np.array_equal(inits(after)["w"], before["w"])


@pytest.mark.parametrize(
    "body",
    [
        RMS
        + "a = MatMul (n, w) b = Sigmoid (a) c = MatMul (b, t) y = Add (n, c)",  # also read by Add
        RMS + "r = Sigmoid (n) y = MatMul (r, w)",  # no factor goes through
        "y = MatMul (x, w)",  # nothing makes it
        RMS + "r = Relu (n) y = Identity (r)",  # no product reads it
    ],
)
def test_left_alone(body: str) -> None:
    model = net(body)
    assert not scalable(model.graph)
    assert not request(model)
    with pytest.raises(QCompileError, match="scales 8 channels of n"):
        Awq({"n": FACTORS})(model)


def test_factors_ease_few_bits() -> None:
    """A channel that carries much is kept; without one nothing is found."""
    random = np.random.default_rng(5)
    weight = random.standard_normal((64, 40)).astype(np.float32)
    size = np.where(np.arange(64) % 16 == 3, 30.0, 1.0)
    rows = random.standard_normal((500, 64)) * size
    gram = (rows.T @ rows / 500).astype(np.float32)
    factors = best_factors(gram, [weight], [Grid(3, 32)])
    assert factors is not None
    assert factors.dtype == np.float32
    assert factors[3] > 2 * np.median(factors)
    assert best_factors(gram, [weight], [Grid(3, 32)], alphas=()) is None


@pytest.mark.parametrize("granularity", [None, "group:8", "channel"])
def test_found_on_samples(granularity: str | None) -> None:
    """What ``find`` finds is a group's, and keeps the function."""
    model = net(RMS + "y = MatMul (n, w)")
    factors = find(model, gather(model, request(model)), granularity)
    assert set(factors) <= {"n"}
    if factors:
        changed(Awq(factors), model, tolerance=1e-4)
