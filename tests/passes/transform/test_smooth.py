"""Outliers leave the activation, the float function stays, others keep reading the norm."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.errors import QCompileError
from qcompile.passes.transform import smoothing
from qcompile.passes.transform.smooth import (
    ALPHAS,
    LEAST_GAIN,
    Smooth,
    changed_values,
    find,
    request,
)
from qcompile.passes.transform.smoothing import Trial
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged
from tests.passes.transform.gathering import gather


def outliers(channels: int, seed: int = 0) -> np.ndarray:
    """A gain with one channel a hundred times the others."""
    gain = np.abs(rand(channels, seed=seed)) + 0.5
    gain[1] *= 100
    return gain


CONSTANTS = {
    "gain": outliers(8),
    "shift": rand(8, seed=4),
    "w": rand(8, 6, seed=1),
    "v": rand(8, 5, seed=2),
    "u": rand(6, 4, seed=3),
    "axis": np.array([-1]),
    "two": np.float32(2),
}


def net(body: str, x: str = "float[N, 3, 8]", **constants: np.ndarray) -> ir.Model:
    model = parse(f"g ({x} x) => (float[] y) {{ {body} }}", {**CONSTANTS, **constants})
    for name in [n for n, v in model.graph.initializers.items() if not v.uses()]:
        del model.graph.initializers[name]
    return model


def found(model: ir.Model, **options: object) -> dict[str, np.ndarray]:
    return find(model, gather(model, request(model)), **options)  # type: ignore[arg-type]


RMS = (
    "q = Pow (x, two) m = ReduceMean (q, axis) s = Sqrt (m) i = Reciprocal (s) h = Mul (x, i) "
    "n = Mul (h, gain) "
)
FOLDED = [
    "n = LayerNormalization (x, gain, shift) y = MatMul (n, w)",
    "n = LayerNormalization (x, gain) y = MatMul (n, w)",
    "n = LayerNormalization (x, gain, shift) a = MatMul (n, w) b = MatMul (n, v) "
    "y = Concat <axis = -1> (a, b)",
    RMS + "y = MatMul (n, w)",
    "h = Mul (x, gain) n = Add (h, shift) y = MatMul (n, w)",
]


@pytest.mark.parametrize("body", FOLDED)
def test_a_factor_goes_into_the_norm(body):
    model = net(body)
    factors = found(model)
    (name,) = factors
    assert name == ("h" if "(x, gain) n = Add" in body else "n")
    assert np.argmax(factors[name]) == 1
    before = inits(model)["gain"]
    nodes = ops(model)
    changed(Smooth(factors), model, tolerance=1e-5)
    assert ops(model) == nodes
    assert np.allclose(inits(model)["gain"] * factors[name], before)


def test_channels_are_alike_afterwards():
    model = net(FOLDED[0])
    reach = gather(model, request(model))["n"]["channel absmax"].absmax
    Smooth(found(model))(model)
    after = gather(model, request(model))["n"]["channel absmax"].absmax
    assert reach.max() / np.median(reach) > 40
    assert after.max() / np.median(after) < 10


def test_a_gate_carries_the_factor_into_the_up_projection():
    up = rand(8, 6, seed=1) * np.array([1, 100, 1, 1, 1, 1], np.float32)
    model = net(
        "p = MatMul (x, w) a = MatMul (x, g) s = Sigmoid (a) t = Mul (a, s) d = Mul (t, p) "
        "y = MatMul (d, u)",
        w=up,
        g=rand(8, 6, seed=5),
    )
    factors = found(model)
    assert list(factors) == ["p"]
    assert changed_values(model, factors) == {"p", "d"}
    changed(Smooth(factors), model, tolerance=1e-5)


@pytest.mark.parametrize(
    "body",
    [
        "n = LayerNormalization (x, gain, shift) a = MatMul (n, w) b = MatMul (a, back) "
        "y = Add (b, n)",
        RMS + "a = MatMul (n, w) b = MatMul (a, back) y = Add (b, n)",
    ],
)
def test_a_norm_that_others_read_gets_a_twin(body):
    model = net(body, back=rand(6, 8, seed=6))
    factors = {"n": found(model)["n"]}
    assert changed_values(model, factors) == {"n.smoothed"}
    before = inits(model)["gain"]
    nodes = len(ops(model))
    changed(Smooth(factors), model, tolerance=1e-5)
    assert len(ops(model)) == nodes + 1
    twin = next(v for n in model.graph for v in n.outputs if v.name == "n.smoothed")
    assert [use.node.op_type for use in twin.uses()] == ["MatMul"]
    assert np.array_equal(inits(model)["gain"], before)


def test_channels_that_are_alike_gain_nothing():
    trial = Trial(np.ones(4), np.eye(4), np.ones(4), np.ones((4, 3)), False)
    assert trial.best(map(trial.shared, ALPHAS), LEAST_GAIN) is None


def test_a_norm_behind_a_residual_sum_is_found():
    model = net(
        "a = MatMul (x, w) c = MatMul (x, v) s = Add (a, c) "
        "n = LayerNormalization (s, gain, shift) y = MatMul (n, u)",
        v=rand(8, 6, seed=2),
        gain=outliers(6),
        shift=rand(6),
    )
    assert list(found(model)) == ["n"]


@pytest.mark.parametrize(
    "body",
    [
        "n = LayerNormalization (x, gain) y = Relu (n)",
        "n = LayerNormalization (x, gain) t = Transpose <perm = [0, 2, 1]> (n) y = MatMul (n, t)",
        "n = LayerNormalization <axis = 1> (x, wide) y = MatMul (n, w)",
        "g2 = Add (gain, shift) n = LayerNormalization (x, g2) y = MatMul (n, w)",
        "h = Mul (x, two) y = MatMul (h, w)",
    ],
)
def test_what_is_left_alone(body):
    model = net(body, wide=rand(3, 8))
    assert request(model) == {}
    unchanged(Smooth(), model)


def test_the_widest_are_left_where_memory_is_short(monkeypatch):
    model = net(
        "n = LayerNormalization (x, gain, shift) a = MatMul (n, w) "
        "m = LayerNormalization (a, gain6) y = MatMul (m, u)",
        gain6=outliers(6),
    )
    assert list(request(model)) == ["n", "m"]
    monkeypatch.setattr(smoothing, "ELEMENTS", 63)
    assert list(request(model)) == ["m"]


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("steps", [15, 255])
def test_the_error_is_that_of_the_quantized_layers(granularity, steps):
    """What the formula expects is what rounding activation and weights really does."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4000, 16)) * np.logspace(0, 1.5, 16)
    w = rng.standard_normal((16, 24))
    one = granularity == "tensor"
    absmax = np.abs(x).max(axis=0)
    trial = Trial(absmax, x.T @ x / len(x), np.abs(w).max(axis=1), w, one, steps)
    for factors in (np.ones(16), absmax**0.5):
        step = 2 * (absmax / factors).max() / steps
        scaled = w * factors[:, None]
        scale = np.abs(scaled).max(axis=None if one else 0) / 127
        got = (np.rint(x / factors / step) * step) @ (np.rint(scaled / scale) * scale)
        measured = np.square(got - x @ w).sum(axis=1).mean()
        assert trial.error(factors) == pytest.approx(measured, rel=0.35 if steps == 15 else 0.1)


def test_factors_that_do_not_fit_are_refused():
    with pytest.raises(Exception, match="no channels that can be scaled") as caught:
        Smooth({"x": np.ones(8, np.float32)})(net(FOLDED[0]))
    assert isinstance(caught.value.__cause__ or caught.value, QCompileError)
