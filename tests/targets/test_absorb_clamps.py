"""A clamp goes only where the quantizer behind it gives the same integers, bit by bit, without."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.affine import LIMITS
from qcompile.targets.absorb_clamps import AbsorbClamps
from tests.passes.prepare.checking import ops, parse, unchanged
from tests.targets.onnxruntime.running import run_plain

X = 257
TYPES = {"uint8": np.uint8, "int8": np.int8, "uint16": np.uint16, "int16": np.int16}


def model(
    clamp: str = "Relu (c)",
    scale: object = np.float32(0.1),
    zero: object = np.uint8(0),
    attributes: str = "",
    **constants: np.ndarray,
) -> ir.Model:
    """``Neg``, then the clamp, then a quantizer; the clamp's input is ``c``."""
    kind = np.asarray(zero).dtype
    return parse(
        f"""g (float[n, {X}] x) => ({kind}[n, {X}] y) {{
            c = Neg (x)
            r = {clamp}
            y = QuantizeLinear{attributes} (r, s, z)
        }}""",
        {"s": np.asarray(scale), "z": np.asarray(zero), **constants},
    )


def clip(low: float | None = 0.0, high: float | None = 6.0, **options: object) -> ir.Model:
    bounds = {"lo": low, "hi": high}
    given = {k: np.float32(v) for k, v in bounds.items() if v is not None}
    names = ", ".join(k if k in given else "" for k in bounds).rstrip(", ")
    return model(f"Clip (c, {names})", **options, **given)  # type: ignore[arg-type]


def hard_values(scale: float, bound: float) -> np.ndarray:
    """Zero, the bound, ends of the type's range, the ties around them and their neighbours."""
    steps = np.array([0, 0.5, 1, 1.5, 127.5, 254.5, 255, 255.5, 256, 32767.5, 65535.5])
    middle = np.concatenate([steps * scale, [bound, bound * 2, 1e30, np.inf, np.inf]])
    points = np.concatenate([middle, -middle]).astype(np.float32)
    around = np.concatenate([points, np.nextafter(points, np.inf), np.nextafter(points, -np.inf)])
    return np.resize(around, (1, X)).astype(np.float32)


def equal_without(model: ir.Model, x: np.ndarray) -> None:
    """The clamp goes and not one integer changes; a second run finds nothing."""
    (before,) = run_plain(model, {"x": x})
    assert AbsorbClamps()(model).modified
    assert ops(model) == ["Neg", "QuantizeLinear"]
    (after,) = run_plain(model, {"x": x})
    assert np.array_equal(before, after)
    unchanged(AbsorbClamps(), model)


@pytest.mark.parametrize("kind", TYPES)
def test_a_relu_goes(kind: str) -> None:
    low, _ = LIMITS[kind]
    equal_without(model(zero=TYPES[kind](low)), hard_values(0.1, 6.0))


def test_a_clip_that_the_range_ends_in_goes() -> None:
    equal_without(clip(0.0, 6.0, scale=np.float32(6 / 255)), hard_values(6 / 255, 6.0))


def test_a_clip_that_ends_nowhere_goes() -> None:
    equal_without(clip(0.0, None), hard_values(0.1, 6.0))


def test_parameters_of_one_element_are_scalars() -> None:
    equal_without(
        model(scale=np.array([0.1], np.float32), zero=np.array([0], np.uint8)),
        hard_values(0.1, 6.0),
    )


def test_the_bound_is_divided_in_float32() -> None:
    """Some bounds are 255 steps when divided as doubles, and 254 in the runtime's float32.

    Taking the double at its word would turn the 254 into 255.
    """
    found = [
        (s, b)
        for s in np.linspace(0.01, 1, 4000, dtype=np.float32)
        for b in [np.float32(254.5 * np.float64(s))]
        if round(float(b) / float(s)) == 255 and int(np.rint(b / s)) == 254
    ]
    assert found, "there are such numbers"
    for s, b in found[:3]:
        unchanged(AbsorbClamps(), clip(0.0, float(b), scale=s))


@settings(max_examples=60, deadline=None)
@given(
    scale=st.floats(2.0**-20, 2.0**10),
    steps=st.one_of(st.floats(200, 300), st.sampled_from([254.0, 254.5, 255.0, 255.5])),
    kind=st.sampled_from(["uint8", "int8"]),
    zero=st.sampled_from([0, 1, 127]),
)
def test_whatever_goes_changes_no_integer(scale: float, steps: float, kind: str, zero: int) -> None:
    bound = float(np.float32(steps * scale))
    low, high = LIMITS[kind]
    candidate = clip(0.0, bound, scale=np.float32(scale), zero=TYPES[kind](low + zero))
    x = hard_values(scale, bound)
    (before,) = run_plain(candidate, {"x": x})
    absorbed = AbsorbClamps()(candidate).modified
    (after,) = run_plain(candidate, {"x": x})
    assert np.array_equal(before, after)
    fits = zero == 0 and int(np.rint(np.float32(bound) / np.float32(scale))) >= high - low
    assert absorbed == fits, "and it goes wherever it can"


@pytest.mark.parametrize(
    "kept",
    [
        pytest.param(lambda: model(zero=np.uint8(1)), id="zero point above the lowest integer"),
        pytest.param(lambda: model(zero=np.int8(0)), id="signed with zero in the middle"),
        pytest.param(lambda: clip(0.0, 6.0, scale=np.float32(0.1)), id="range beyond the bound"),
        pytest.param(lambda: clip(-1.0, 6.0, scale=np.float32(6 / 255)), id="bound below zero"),
        pytest.param(lambda: clip(0.5, 6.0, scale=np.float32(6 / 255)), id="bound above zero"),
        pytest.param(lambda: clip(None, 6.0, scale=np.float32(6 / 255)), id="no lower bound"),
        pytest.param(
            lambda: model(
                "Relu (c)",
                np.full(X, 0.1, np.float32),
                np.zeros(X, np.uint8),
                "<axis = 1>",
            ),
            id="scales a channel",
        ),
        pytest.param(lambda: model("Abs (c)"), id="no clamp"),
    ],
)
def test_left_alone(kept: object) -> None:
    unchanged(AbsorbClamps(), kept())  # type: ignore[operator]


def variants() -> dict[str, ir.Model]:
    constants = {"s": np.float32(0.1), "z": np.uint8(0), "h": np.float32(100)}
    texts = {
        "a graph input": "g (float[4] x) => (uint8[4] y) { r = Relu (x)\n"
        "y = QuantizeLinear (r, s, z) }",
        "another reader of the clamp": "g (float[4] x) => (uint8[4] y, float[4] w) { c = Neg (x)\n"
        "r = Relu (c)\n y = QuantizeLinear (r, s, z)\n w = Neg (r) }",
        "another reader before it": "g (float[4] x) => (uint8[4] y, float[4] w) { c = Neg (x)\n"
        "r = Relu (c)\n y = QuantizeLinear (r, s, z)\n w = Neg (c) }",
        "the clamp is an output": "g (float[4] x) => (uint8[4] y, float[4] r) { c = Neg (x)\n"
        "r = Relu (c)\n y = QuantizeLinear (r, s, z) }",
        "its input is an output": "g (float[4] x) => (uint8[4] y, float[4] c) { c = Neg (x)\n"
        "r = Relu (c)\n y = QuantizeLinear (r, s, z) }",
        "no quantizer": "g (float[4] x) => (float[4] y) { c = Neg (x)\n r = Relu (c)\n"
        "y = Neg (r) }",
        "no zero point": "g (float[4] x) => (uint8[4] y) { c = Neg (x)\n r = Relu (c)\n"
        "y = QuantizeLinear (r, s) }",
        "a computed scale": "g (float[4] x, float t) => (uint8[4] y) { c = Neg (x)\n"
        "r = Relu (c)\n y = QuantizeLinear (r, t, z) }",
        "a computed bound": "g (float[4] x, float t) => (uint8[4] y) { c = Neg (x)\n"
        "r = Clip (c, t, h)\n y = QuantizeLinear (r, s, z) }",
        "a computed upper bound": "g (float[4] x, float t) => (uint8[4] y) { c = Neg (x)\n"
        "o = Constant <value = float {0}> ()\n"
        "r = Clip (c, o, t)\n y = QuantizeLinear (r, s, z) }",
    }
    return {name: parse(text, constants) for name, text in texts.items()}


@pytest.mark.parametrize("name", variants())
def test_left_alone_in_this_graph(name: str) -> None:
    unchanged(AbsorbClamps(), variants()[name])


def test_a_scale_that_is_not_float32_divides_otherwise() -> None:
    half = parse(
        """g (float16[n, 4] x) => (uint8[n, 4] y) {
            c = Neg (x)
            r = Relu (c)
            y = QuantizeLinear (r, s, z)
        }""",
        {"s": np.float16(0.1), "z": np.uint8(0)},
    )
    unchanged(AbsorbClamps(), half)


def test_a_quantizer_to_float8_is_none_of_ours() -> None:
    eight = parse("""g (float[4] x) => (float8e4m3fn[4] y)
        <float s = {0.1}, float8e4m3fn z = {0}> {
            c = Neg (x)
            r = Relu (c)
            y = QuantizeLinear (r, s, z)
        }""")
    unchanged(AbsorbClamps(), eight)
