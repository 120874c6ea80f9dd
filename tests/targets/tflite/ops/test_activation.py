"""Clamps that stand alone: saturating QUANTIZE, or MAXIMUM and MINIMUM."""

import numpy as np
import pytest

from tests.targets.tflite.lowering import check_float, check_integer_graph, lowered, parse

FLOAT = {
    (0.0, None): ["RELU"],
    (0.0, 6.0): ["RELU6"],
    (-1.0, 1.0): ["RELU_N1_TO_1"],
    (-0.3, 0.4): ["MAXIMUM", "MINIMUM"],
    (None, 0.4): ["MINIMUM"],
    (0.1, None): ["MAXIMUM"],
    (None, None): ["RESHAPE"],
}


def clip(low: float | None, high: float | None) -> tuple[str, dict[str, np.ndarray]]:
    bounds = {"low": low, "high": high}
    given = {k: np.asarray(v, np.float32) for k, v in bounds.items() if v is not None}
    names = [k if v is not None else "" for k, v in bounds.items()]
    return f"Clip(a, {', '.join(names)})".replace(", )", ")").replace(", )", ")"), given


@pytest.mark.parametrize("bounds", FLOAT)
def test_float(bounds: tuple[float | None, float | None]) -> None:
    call, given = clip(*bounds)
    run = check_float(f"g (float[2,3,4] a) => (float[n] y) {{ y = {call} }}", given)
    assert run.ops == FLOAT[bounds]


def integer(call: str) -> str:
    return f"""g (int8[2,300] x) => (int8[2,300] y) {{ a = DequantizeLinear(x, s, z)
        c = {call} y = QuantizeLinear(c, t, o) }}"""


PARAMETERS = {
    "relu": ("Relu(a)", 0.05, 3, 0.02, -128, 1),
    "relu, zero point elsewhere": ("Relu(a)", 0.05, 3, 0.05, 3, 2),
    "relu6": ("Clip(a, zero, six)", 0.1, 3, 6 / 255, -128, 1),
    "relu6, a wider output": ("Clip(a, zero, six)", 0.1, 3, 0.05, -128, 2),
    "relu6, a narrower output": ("Clip(a, zero, six)", 0.1, 3, 0.01, -128, 1),
}


@pytest.mark.parametrize("case", PARAMETERS)
def test_from_zero_is_a_quantize(case: str) -> None:
    """Never a RELU node; two QUANTIZE where the output's own range is another."""
    call, s, z, t, o, count = PARAMETERS[case]
    constants = {
        "s": np.float32(s),
        "z": np.int8(z),
        "t": np.float32(t),
        "o": np.int8(o),
        "zero": np.float32(0),
        "six": np.float32(6),
    }
    model = parse(integer(call), {k: v for k, v in constants.items() if k in integer(call)})
    run = check_integer_graph(model, share=0.2)
    assert run.ops == ["QUANTIZE"] * count


@pytest.mark.parametrize(
    ("low", "high", "ops"),
    [
        (-1.0, 2.0, ["MAXIMUM", "MINIMUM"]),
        (-100.0, 2.0, ["MINIMUM"]),
        (-1.0, 100.0, ["MAXIMUM"]),
        (-100.0, 100.0, ["RESHAPE"]),
    ],
)
def test_other_bounds_are_exact(low: float, high: float, ops: list[str]) -> None:
    call, given = clip(low, high)
    params = {"s": np.float32(0.05), "z": np.int8(3), "t": np.float32(0.05), "o": np.int8(3)}
    run = check_integer_graph(parse(integer(call), {**given, **params}), lsb=0, share=0)
    assert run.ops == ops


def test_other_parameters_first() -> None:
    call, given = clip(-1.0, 2.0)
    params = {"s": np.float32(0.05), "z": np.int8(3), "t": np.float32(0.02), "o": np.int8(-20)}
    run = check_integer_graph(parse(integer(call), {**given, **params}), share=0.1)
    assert run.ops == ["QUANTIZE", "MAXIMUM", "MINIMUM"]


@pytest.mark.parametrize(
    ("call", "ops"),
    [
        ("Clip(x, low)", ["MAXIMUM"]),
        ("Clip(x, , low)", ["MINIMUM"]),
        ("Clip(x, low, high)", ["MAXIMUM", "MINIMUM"]),
    ],
)
def test_computed_bounds(call: str, ops: list[str]) -> None:
    text = f"g (float[2,3] x, float low, float high) => (float[n,m] y) {{ y = {call} }}"
    run = lowered(parse(text))
    assert run.ops == ops
    rng = np.random.default_rng(0)
    for _ in range(4):
        low, high = np.sort(rng.normal(size=2)).astype(np.float32)
        feeds = {"x": rng.normal(size=(2, 3)).astype(np.float32), "low": low, "high": high}
        np.testing.assert_array_equal(run.outputs(feeds)[0], _clipped(call, **feeds))


def _clipped(call: str, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    if "high" in call:
        return np.clip(x, low, high)
    return np.minimum(x, low) if ", ," in call else np.maximum(x, low)
