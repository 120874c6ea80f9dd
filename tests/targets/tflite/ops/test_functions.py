"""Functions of one element: operators, tables, identities, float islands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import QCompileError
from qcompile.core.numerics.affine import dequantize, quantize
from tests.passes.planning import session
from tests.targets.tflite.enclosing import Params, check_enclosed, enclosed
from tests.targets.tflite.lowering import check_float, deviation, lowered, noise, parse

POSITIVE: Params = (1 / 32, -128)
"""Parameters without negative numbers."""
TABLE = ["CAST", "ADD", "GATHER"]


def model(call: str, shape: str = "1,8,9,10") -> str:
    return f"g (float[{shape}] x) => (float y) {{ y = {call} }}"


@pytest.mark.parametrize(
    ("call", "ops", "atol"),
    [
        ("Abs<>(x)", ["ABS"], 0),
        ("Ceil<>(x)", ["NEG", "FLOOR", "NEG"], 0),
        ("Cos<>(x)", ["COS"], 2e-7),
        ("Exp<>(x)", ["EXP"], 5e-7),
        ("Floor<>(x)", ["FLOOR"], 0),
        ("Gelu<>(x)", ["GELU"], 2e-6),
        ('Gelu<approximate="tanh">(x)', ["GELU"], 5e-6),
        ("HardSigmoid<alpha=0.25>(x)", ["MUL", "ADD", "MAXIMUM", "MINIMUM"], 2e-7),
        ("HardSwish<>(x)", ["HARD_SWISH"], 5e-7),
        ("LeakyRelu<alpha=0.2>(x)", ["LEAKY_RELU"], 0),
        ("Neg<>(x)", ["NEG"], 0),
        ("Mish<>(x)", ["ABS", "MUL", "EXP", "MAXIMUM", "ADD", "LOG", "ADD", "TANH", "MUL"], 2e-6),
        ("Reciprocal<>(x)", ["DIV"], 5e-7),
        ("Sigmoid<>(x)", ["LOGISTIC"], 1e-6),
        ("Sign<>(x)", ["SIGN"], 0),
        ("Sin<>(x)", ["SIN"], 2e-7),
        ("Softplus<>(x)", ["ABS", "MUL", "EXP", "MAXIMUM", "ADD", "LOG", "ADD"], 1e-6),
        ("Softsign<>(x)", ["ABS", "ADD", "DIV"], 5e-7),
        ("Tanh<>(x)", ["TANH"], 1e-6),
        ("Softmax<>(x)", ["SOFTMAX"], 1e-6),
        ("LogSoftmax<>(x)", ["LOG_SOFTMAX"], 2e-6),
        ("LpNormalization<>(x)", ["L2_NORMALIZATION"], 1e-6),
    ],
)
def test_float(call: str, ops: list[str], atol: float) -> None:
    run = check_float(model(call), atol=max(atol, 1e-12))
    assert sorted(run.ops) == sorted(ops)
    assert not run.lowered.notes  # nothing is told of floats in a float graph


@pytest.mark.parametrize("op", ["Sqrt", "Log"])
def test_float_of_positive_numbers(op: str) -> None:
    run = check_float(f"g (float[3,40] x) => (float y) {{ a = Exp(x) y = {op}(a) }}", atol=1e-6)
    assert run.ops == ["EXP", op.upper()]


def test_float_elu_and_round_need_kernels_beyond_the_reference() -> None:
    run = check_float(model("Elu<>(x)"), runtimes=("builtin", "xnnpack"))
    assert run.ops == ["ELU"]
    run = check_float(model("Elu<alpha=0.5>(x)"), runtimes=("builtin", "xnnpack"))
    assert run.ops == ["MINIMUM", "ELU", "MAXIMUM", "MUL", "ADD"]
    check_float(model("Selu<>(x)"), runtimes=("builtin", "xnnpack"))
    check_float(model("Round<>(x)"), runtimes=("builtin", "xnnpack"), atol=1e-12)


def test_float_erf_is_right_to_single_precision() -> None:
    text = model("Erf<>(x)", "1,4000")
    run = lowered(parse(text))
    x = np.concatenate([np.linspace(-5, 5, 3998), [0.0, 1e-20]]).astype(np.float32)[None]
    want = session(parse(text)).run({"x": x})[0]
    for runtime in ("reference", "xnnpack"):
        got = run.outputs({"x": x}, runtime)[0]
        assert np.abs(got - want).max() < 4e-7
        assert got[0, 3998] == 0.0


@pytest.mark.parametrize(
    ("call", "params"),
    [
        ("Ceil<>(x)", None),
        ("Cos<>(x)", None),
        ("Elu<alpha=0.7>(x)", None),
        ("Erf<>(x)", None),
        ("Floor<>(x)", None),
        ("HardSigmoid<alpha=0.25>(x)", None),
        ("Mish<>(x)", None),
        ("Round<>(x)", None),
        ("Selu<>(x)", None),
        ("Sign<>(x)", None),
        ("Sin<>(x)", None),
        ("Softplus<>(x)", None),
        ("Softsign<>(x)", None),
        ("Sqrt<>(x)", {"x": POSITIVE}),
        ("Log<>(x)", {"x": POSITIVE, "y": (0.03, 100)}),
        ("Reciprocal<>(x)", {"x": POSITIVE, "y": (0.1, -100)}),
        ("Pow<>(x, three)", None),
        ("Pow<>(x, half)", {"x": POSITIVE}),
        ("Div<>(three, x)", {"x": POSITIVE, "y": (0.1, -100)}),
    ],
)
def test_table_of_every_int8(call: str, params: dict[str, Params] | None) -> None:
    # 720 elements hold all 256 integers; not one may differ.
    numbers = {"three": np.float32([3.0]), "half": np.float32([0.5])}
    used = {name: array for name, array in numbers.items() if name in call}
    run = check_enclosed(model(call), used, params=params)
    assert run.ops == TABLE
    assert not run.lowered.notes


def test_table_where_the_function_has_no_value() -> None:
    # The integer SQRT of TFLite stops the run at a negative number.
    run = lowered(
        enclosed(parse(model("Sqrt<>(x)", "1,256")), {"x": (1 / 32, 0), "y": (0.02, -128)})
    )
    x = np.arange(-128, 128, dtype=np.int8)[None]
    real = np.sqrt(np.maximum(dequantize(x, np.float32(1 / 32), np.asarray(0)), 0))
    want = quantize(real, np.float32(0.02), np.asarray(-128), "int8")
    np.testing.assert_array_equal(run.outputs({"x": x})[0], want)


@pytest.mark.parametrize("call", ["Abs<>(x)", "Exp<>(x)", "Gelu<>(x)", "Neg<>(x)"])
def test_int8_operators_that_round_exactly(call: str) -> None:
    run = check_enclosed(model(call))
    assert len(run.ops) == 1 and not run.lowered.notes


@pytest.mark.parametrize(
    ("call", "ops", "share"),
    [
        ("HardSwish<>(x)", ["HARD_SWISH"], 0.02),
        ("LeakyRelu<alpha=0.2>(x)", ["LEAKY_RELU"], 0.15),
        # These two differ more often where a QUANTIZE follows: two roundings.
        ("Sigmoid<>(x)", ["LOGISTIC", "QUANTIZE"], 0.45),
        ("Tanh<>(x)", ["TANH", "QUANTIZE"], 0.3),
        ("Softmax<>(x)", ["SOFTMAX", "QUANTIZE"], 0.3),
        ("LogSoftmax<>(x)", ["LOG_SOFTMAX", "QUANTIZE"], 0.5),
        ("LpNormalization<>(x)", ["L2_NORMALIZATION", "QUANTIZE"], 0.45),
    ],
)
def test_int8_within_one_step(call: str, ops: list[str], share: float) -> None:
    run = check_enclosed(model(call), lsb=1, share=share)
    assert run.ops == ops


@pytest.mark.parametrize(
    ("call", "params", "share"),
    [
        ("Sigmoid<>(x)", (2.0**-8, -128), 0.02),
        ("Tanh<>(x)", (2.0**-7, 0), 0.02),
        ("Softmax<>(x)", (2.0**-8, -128), 0.02),
        ("LogSoftmax<>(x)", (2.0**-4, 127), 0.02),
        ("LpNormalization<>(x)", (2.0**-7, 0), 0.2),
    ],
)
def test_fixed_output_parameters_need_no_requantization(
    call: str, params: Params, share: float
) -> None:
    run = check_enclosed(model(call), params={"y": params}, lsb=1, share=share)
    assert len(run.ops) == 1


@pytest.mark.parametrize(
    "call",
    ["Exp<>(x)", "Gelu<>(x)", "HardSwish<>(x)", "Erf<>(x)", "LogSoftmax<>(x)", "Floor<>(x)"],
)
def test_int16_without_a_right_kernel_is_a_float_island(call: str) -> None:
    run = check_enclosed(model(call), params={"x": (1e-4, 0)}, dtype="int16", lsb=1, share=0.02)
    assert run.ops[0] == "DEQUANTIZE" and run.ops[-1] == "QUANTIZE"
    assert any("computed in float" in note.message for note in run.lowered.notes)


@pytest.mark.parametrize(
    ("call", "lsb"),
    [
        ("Sigmoid<>(x)", 2),
        ("Tanh<>(x)", 2),
        ("Abs<>(x)", 0),
        ("LeakyRelu<>(x)", 1),
        ("Neg<>(x)", 1),
    ],
)
def test_int16_with_a_kernel(call: str, lsb: int) -> None:
    run = check_enclosed(model(call), params={"x": (1e-4, 0)}, dtype="int16", lsb=lsb, share=0.5)
    assert "DEQUANTIZE" not in run.ops


@settings(max_examples=25, deadline=None)
@given(
    scale=st.floats(1e-3, 0.2),
    zero=st.integers(-128, 127),
    out_zero=st.integers(-128, 127),
    stretch=st.floats(0.3, 3.0),
)
def test_negation_under_any_parameters(
    scale: float, zero: int, out_zero: int, stretch: float
) -> None:
    # NEG itself negates the raw integers, whatever the zero points.
    params = {"x": (scale, zero), "y": (scale * stretch, out_zero)}
    run = check_enclosed(
        model("Neg<>(x)", "2,256"), params=params, lsb=1, share=0.5, runtimes=("reference",)
    )
    assert run.ops == ["MUL"]


def test_softmax_of_another_axis() -> None:
    pool = "a = MaxPool<kernel_shape=[1,1]>(x)"
    text = f"g (float[1,5,4,6] x) => (float y) {{ {pool} y = Softmax<axis=1>(a) }}"
    run = check_float(text)
    assert run.ops == ["MAX_POOL_2D", "SOFTMAX"]  # channels are innermost already
    run = check_float(model("Softmax<axis=1>(x)"))
    assert run.ops == ["TRANSPOSE", "SOFTMAX"] and run.lowered.notes


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -2])
def test_softmax_of_any_axis_in_int8(axis: int) -> None:
    check_enclosed(
        model(f"Softmax<axis={axis}>(x)", "3,5,4,6"),
        params={"y": (2.0**-8, -128)},
        lsb=1,
        share=0.05,
    )


@pytest.mark.parametrize("channels_last", [False, True])
def test_prelu_with_a_slope_a_channel(channels_last: bool) -> None:
    slopes = np.linspace(-0.3, 0.6, 8).astype(np.float32).reshape(8, 1, 1)
    pool = "a = MaxPool<kernel_shape=[1,1]>(x)" if channels_last else "a = Identity(x)"
    text = f"g (float[1,8,9,10] x) => (float y) {{ {pool} y = PRelu(a, s) }}"
    assert check_float(text, {"s": slopes}).count["PRELU"] == 1
    same = {"a": (1 / 32, -10)}
    run = check_enclosed(text, {"s": slopes}, params=same, lsb=1, share=0.2)
    assert run.count["PRELU"] == 1 and "TRANSPOSE" not in run.ops
    run = check_enclosed(
        text,
        {"s": slopes},
        params={"x": (1e-4, 0), "a": (1e-4, 0)},
        dtype="int16",
        lsb=1,
        share=0.01,
    )
    assert "DEQUANTIZE" in run.ops  # the 16-bit kernel is garbage


def test_square_is_a_product() -> None:
    two = {"two": np.float32(2.0)}
    assert check_float(model("Pow<>(x, two)"), two).ops == ["MUL"]
    run = check_enclosed(model("Pow<>(x, two)"), two, lsb=1, share=0.01)
    assert run.ops == ["MUL"]


def test_power_of_two_values_is_a_float_island() -> None:
    text = "g (float[1,256] x, float[1,256] e) => (float y) { y = Pow(x, e) }"
    params = {"x": POSITIVE, "e": (1 / 128, 0), "y": POSITIVE}  # 0 ** -1 is infinite
    run = check_enclosed(text, params=params, lsb=1, share=0.01)
    assert run.ops == ["DEQUANTIZE", "DEQUANTIZE", "POW", "MAXIMUM", "MINIMUM", "QUANTIZE"]
    assert "computed in float" in run.lowered.notes[0].message


def test_integer_exponents_are_converted() -> None:
    """The two operands of Pow may be of different types, those of POW may not."""
    exponents = {"e": np.asarray([[2], [3], [0]], np.int64)}
    assert check_float("g (float[3,4] x) => (float y) { y = Pow(x, e) }", exponents).ops == ["POW"]
    model = parse("g (float[3,4] x, int32[3,1] e) => (float y) { y = Pow(x, e) }")
    run = lowered(model)
    assert run.ops == ["CAST", "POW"]
    feeds = {"x": noise(model)["x"], "e": exponents["e"].astype(np.int32)}
    np.testing.assert_allclose(run.outputs(feeds, "reference")[0], feeds["x"] ** feeds["e"], 1e-5)


def test_slopes_that_do_not_fit_are_refused() -> None:
    """As of opset 6, which had one a channel wherever the channels are."""
    text = "g (float[1,3,4,5] x) => (float[1,3,4,5] y) { y = PRelu(x, w) }"
    with pytest.raises(QCompileError, match="do not fit"):
        lowered(parse(text, {"w": np.ones(3, np.float32)}))


@pytest.mark.parametrize("kinds", [("int64", "float"), ("float", "uint64"), ("int64", "int64")])
def test_other_types_of_powers_are_refused(kinds: tuple[str, str]) -> None:
    base, exponent = kinds
    text = f"g ({base}[3] x, {exponent}[3] e) => ({base}[3] y) {{ y = Pow(x, e) }}"
    with pytest.raises(QCompileError, match="POW has no"):
        lowered(parse(text))


def test_division_by_a_number_is_a_product_and_exact() -> None:
    run = check_enclosed(model("Div<>(x, d)"), {"d": np.float32([-7.3])}, lsb=1, share=0.01)
    assert run.ops == ["MUL"]
    assert not run.lowered.notes


def test_division_by_different_numbers_stays_right_near_zero() -> None:
    divisors = {"d": np.geomspace(0.01, 100, 10).astype(np.float32)}
    run = check_enclosed(model("Div<>(x, d)"), divisors, lsb=1, share=0.01)
    assert "DIV" in run.ops and "DEQUANTIZE" in run.ops


def test_division_of_two_values_is_a_float_island() -> None:
    text = "g (float[1,256] x, float[1,256] d) => (float y) { y = Div(x, d) }"
    params = {"d": (1 / 64, -128), "y": (0.5, 0)}
    qdq = enclosed(parse(text), params)
    run = lowered(qdq)
    assert run.ops == ["DEQUANTIZE", "DEQUANTIZE", "DIV", "MAXIMUM", "MINIMUM", "QUANTIZE"]
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.integers(-9, 128, (1, 256), dtype=np.int8),  # -10 stands for 0
        "d": rng.integers(-128, -100, (1, 256), dtype=np.int8),  # -128 stands for 0
    }
    want = session(qdq).run(feeds)[0]
    assert (want[feeds["d"] == -128] == 127).all()
    for runtime in ("reference", "builtin", "xnnpack"):
        found = deviation(run.outputs(feeds, runtime)[0], want)
        assert found.lsb <= 1 and found.share < 0.03  # ties: d is a power of two at times


def test_float_between_integers_when_only_one_side_is_quantized() -> None:
    run = check_enclosed(model("Erf<>(x)"), floats=["y"])
    assert run.ops[0] == "DEQUANTIZE" and run.ops[-1] == "MUL"
    assert "computed in float" in run.lowered.notes[0].message


def test_equal_tables_are_stored_once() -> None:
    # Equal functions share one table of 256 bytes.
    text = "g (float[1,256] x) => (float y, float z) { y = Erf(x) z = Erf(x) }"
    run = check_enclosed(text, params={"y": (1 / 127, 0), "z": (1 / 127, 0)})
    assert run.count["GATHER"] == 2
    assert len(run.lowered.data) < 4000
