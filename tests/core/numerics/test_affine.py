"""Affine parameters, and integers that agree with ONNX Runtime's own quantizers bit by bit."""

import functools
from fractions import Fraction

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.affine import (
    LIMITS,
    SMALLEST_SCALE,
    along_axis,
    asymmetric_params,
    dequantize,
    is_signed,
    limits,
    quantize,
    storage_type,
    symmetric_params,
    zero_offset,
)

ACTIVATION_TYPES = ["uint8", "int8", "uint16", "int16", "uint4", "int4"]
reals = st.floats(-(2.0**100), 2.0**100, width=32)
FLOAT_MAX = float(np.finfo(np.float32).max)


def fitting(text: str, **inputs: np.ndarray) -> np.ndarray:
    """Run one node as it is written."""
    types = {key: onnx.helper.np_dtype_to_tensor_dtype(a.dtype) for key, a in inputs.items()}
    return np.asarray(
        _loaded(text, tuple(types.items())).run(
            None, {k: np.asarray(a) for k, a in inputs.items()}
        )[0]
    )


@functools.cache
def _loaded(text: str, types: tuple[tuple[str, int], ...]) -> ort.InferenceSession:
    node = onnx.parser.parse_node(text)
    made = onnx.helper.make_tensor_value_info
    ins = [made(name, type_, None) for name, type_ in types]
    out = onnx.ValueInfoProto(name="y")
    graph = onnx.helper.make_graph([node], "g", ins, [out])
    model = onnx.helper.make_model(
        graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)]
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options)


# --- parameters ------------------------------------------------------------------------------


@given(reals, reals, st.sampled_from(ACTIVATION_TYPES))
@example(0.0, 0.0, "uint8")
@example(-FLOAT_MAX, FLOAT_MAX, "uint8")
@example(0.0, 1e-45, "uint8")
@example(-1e-45, 0.0, "int8")
def test_an_asymmetric_range_is_covered(a, b, dtype):
    low, high = min(a, b, 0.0), max(a, b, 0.0)
    scale, zero = asymmetric_params(np.asarray(min(a, b)), np.asarray(max(a, b)), dtype)
    qmin, qmax = limits(dtype)
    assert scale.dtype == np.float32
    assert np.isfinite(scale)
    assert scale >= SMALLEST_SCALE
    assert qmin <= zero <= qmax
    s = Fraction(float(scale))
    # Float32 rounding of the scale moves the far end by up to 2**-24 of the range.
    slack = s * (Fraction(1, 2) + Fraction(qmax - qmin, 2**24))
    assert Fraction(high) - s * (qmax - int(zero)) <= slack
    assert s * (qmin - int(zero)) - Fraction(low) <= slack
    assert dequantize(quantize(np.float32(0), scale, zero, dtype), scale, zero) == 0.0


@given(
    st.floats(0, 2.0**100, width=32),
    st.floats(0, 2.0**100, width=32),
    st.sampled_from(ACTIVATION_TYPES),
)
def test_a_range_from_zero_makes_the_quantizer_a_relu(a, b, dtype):
    scale, zero = asymmetric_params(np.asarray(min(a, b)), np.asarray(max(a, b)), dtype)
    assert zero == limits(dtype)[0]
    assert dequantize(quantize(np.float32(-b), scale, zero, dtype), scale, zero) == 0.0


@given(reals, st.sampled_from(sorted(LIMITS)))
def test_a_symmetric_range_has_as_many_steps_on_both_sides(a, dtype):
    scale, zero = symmetric_params(np.abs(np.float32(a)), dtype)
    _, qmax = limits(dtype)
    assert zero == zero_offset(dtype) == (0 if is_signed(dtype) else (qmax + 1) // 2)
    assert scale >= SMALLEST_SCALE
    if dtype != "int32":  # its steps are finer than float32 tells apart
        both = np.asarray([-abs(a), abs(a)], np.float32)
        q = quantize(both, scale, zero, dtype).astype(np.int64) - zero
        assert q[0] == -q[1]
        assert q[1] in (qmax - zero, 0) or scale == SMALLEST_SCALE


def test_vectors_of_channels_at_once():
    low, high = np.asarray([-1.0, 0.0, 0.0, 2.0]), np.asarray([3.0, 0.0, 5.0, 3.0])
    scale, zero = asymmetric_params(low, high, "uint8")
    assert zero.tolist() == [64, 0, 0, 0]
    assert scale.tolist() == [np.float32(x) for x in (4 / 255, 1 / 255, 5 / 255, 3 / 255)]
    scale, zero = symmetric_params(np.asarray([0.0, 127.0]), "int8")
    assert scale.tolist() == [np.float32(1 / 127), 1.0]
    assert zero.tolist() == [0, 0]


def test_the_product_of_two_smallest_scales_is_a_normal_number():
    product = SMALLEST_SCALE * SMALLEST_SCALE
    assert product.dtype == np.float32
    assert product >= np.finfo(np.float32).smallest_normal


@pytest.mark.parametrize(
    ("dtype", "held_in"),
    [("uint2", "uint8"), ("int4", "int8"), ("int8", "int8"), ("uint16", "uint16"), ("int32",) * 2],
)
def test_the_type_that_holds_one_integer(dtype, held_in):
    assert storage_type(dtype) == np.dtype(held_in)


def test_a_vector_along_an_axis():
    assert along_axis(np.arange(3), 1, 4).shape == (1, 3, 1, 1)
    assert along_axis(np.arange(3), -1, 2).shape == (1, 3)
    assert along_axis(np.asarray(3), None, 4).shape == ()


# --- integers, against ONNX Runtime ----------------------------------------------------------

SPECIAL = np.asarray(
    [
        0.0,
        -0.0,
        0.5,
        1.5,
        2.5,
        -0.5,
        -1.5,
        1e-45,
        1e30,
        -1e30,
        FLOAT_MAX,
        -FLOAT_MAX,
        np.inf,
        -np.inf,
    ],
    np.float32,
)


@st.composite
def cases(draw, channels: int = 1):
    """Numbers around the grid of a scale: ties, both ends, far outside."""
    dtype = draw(st.sampled_from(["uint8", "int8", "uint16", "int16"]))
    qmin, qmax = limits(dtype)
    log = draw(st.lists(st.floats(-40, 10), min_size=channels, max_size=channels))
    scale = np.exp2(np.asarray(log)).astype(np.float32)
    zero = np.full(channels, draw(st.integers(qmin, qmax)), np.int64)
    steps = draw(
        st.lists(st.integers(2 * (qmin - qmax), 2 * (qmax - qmin)), min_size=4, max_size=12)
    )
    halves = np.asarray(steps, np.float64) / 2
    rows = [np.concatenate([(halves * float(s)).astype(np.float32), SPECIAL]) for s in scale]
    return np.stack(rows), scale, zero, dtype


@settings(max_examples=200)
@given(cases())
def test_quantize_is_onnx_runtimes_per_tensor(case):
    x, scale, zero, dtype = case
    s, z = scale[0], zero[0].astype(dtype)
    wanted = fitting("y = QuantizeLinear(x, s, z)", x=x, s=s, z=z)
    got = quantize(x, s, z.astype(np.int64), dtype)
    assert got.dtype == wanted.dtype
    assert np.array_equal(got, wanted)
    back = fitting("y = DequantizeLinear(q, s, z)", q=got, s=s, z=z)
    ours = dequantize(got, s, z.astype(np.int64))
    assert ours.dtype == np.float32
    assert np.array_equal(ours.view(np.int32), back.view(np.int32))


@settings(max_examples=100)
@given(cases(channels=3), st.sampled_from([0, 1, 2, -1]))
def test_quantize_is_onnx_runtimes_per_channel(case, axis):
    x, scale, zero, dtype = case
    # Three channels along the axis asked for, in an array of three dimensions.
    x = np.ascontiguousarray(np.moveaxis(x.reshape(3, 1, -1), 0, axis))
    z = zero.astype(dtype)
    wanted = fitting(f"y = QuantizeLinear<axis = {axis}>(x, s, z)", x=x, s=scale, z=z)
    got = quantize(x, scale, zero, dtype, axis)
    assert np.array_equal(got, wanted)
    back = fitting(f"y = DequantizeLinear<axis = {axis}>(q, s, z)", q=got, s=scale, z=z)
    assert np.array_equal(dequantize(got, scale, zero, axis).view(np.int32), back.view(np.int32))


@given(
    st.lists(st.integers(*LIMITS["int32"]), min_size=1, max_size=20),
    st.floats(2.0**-60, 1e3, width=32),
)
def test_an_int32_is_dequantized_as_onnx_runtime_does(integers, scale):
    q, s = np.asarray(integers, np.int32), np.float32(scale)
    back = fitting("y = DequantizeLinear(q, s)", q=q, s=s)
    assert np.array_equal(dequantize(q, s, np.int64(0)).view(np.int32), back.view(np.int32))


@given(st.floats(-200, 200, width=32), st.floats(2.0**-10, 2.0**10, width=32))
def test_quantize_rounds_the_float32_quotient_to_even(x, scale):
    """Against exact rationals: the quotient is rounded to float32 once, then to an integer."""
    quotient = np.float32(np.float64(x) / np.float64(scale))  # exact enough to round once
    wanted = min(max(round(Fraction(float(quotient))) + 3, 0), 255)
    got = quantize(np.float32(x), np.float32(scale), np.int64(3), "uint8")
    assert int(got) == wanted


def test_arrays_of_any_size_and_layout():
    assert quantize(np.zeros((0, 3), np.float32), np.ones(3), np.zeros(3), "int8", 1).shape == (
        0,
        3,
    )
    x = np.arange(6, dtype=np.float64).reshape(2, 3).T
    assert quantize(x, np.float32(1), np.int64(0), "int8").tolist() == x.tolist()
    assert quantize(np.float32(7), np.float32(2), np.int64(0), "int4") == 4
    assert quantize(np.float32(99), np.float32(1), np.int64(0), "int4") == 7


def test_the_argument_is_not_written_to():
    x = np.asarray([0.4, 1.6], np.float32)
    x.flags.writeable = False
    assert quantize(x, np.float32(1), np.int64(0), "int8").tolist() == [0, 2]
    q = np.asarray([1, 2], np.int8)
    q.flags.writeable = False
    assert dequantize(q, np.float32(0.5), np.int64(1)).tolist() == [0.0, 0.5]
