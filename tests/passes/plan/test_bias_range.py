"""No bias and no sum leaves INT32, proven by brute force over what a channel can reach."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.affine import along_axis, limits
from qcompile.core.plan import QuantParams, QuantPlan
from qcompile.core.units import units
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.rounding.nearest import bias_integers, weight_integers
from tests.passes.planning import TARGET, draft
from tests.passes.prepare.checking import parse, rand

INT32 = 2**31 - 1


def gemm(weight: np.ndarray, bias: np.ndarray) -> ir.Model:
    k, n = weight.shape
    text = f"g (float[2, {k}] x) => (float[2, {n}] y) {{ y = Gemm (x, w, b) }}"
    return parse(text, {"w": weight, "b": bias})


def plan_with(
    model: ir.Model, scale: float, zero_point: int, granularity: str | None = "channel"
) -> QuantPlan:
    """A plan whose activations all have these parameters; nothing fitted yet."""
    plan = draft(model)
    params = QuantParams(np.asarray(scale, np.float32), np.asarray(zero_point, np.int64))
    for name, entry in plan.values.items():
        if entry.role == "activation":
            plan.values[name] = entry.with_params(params)
    choose_weights(model.graph, plan, TARGET, granularity)
    return plan


def assert_proven(model: ir.Model, plan: QuantPlan) -> None:
    """For every channel: the stored bias, and the extremes of its sum with it, fit in int32."""
    for unit in units(model.graph, plan):
        assert unit.weight is not None and unit.bias is not None
        entry = plan.values[unit.weight.name or ""]
        bias = plan.values[unit.bias.name or ""]
        x = plan.values[unit.node.inputs[0].name or ""]
        assert entry.params is not None and bias.params is not None and x.params is not None
        array, values = unit.weight.const_value.numpy(), unit.bias.const_value.numpy()
        integers = weight_integers(array, entry, plan.rounded.get(entry.name)).astype(object)
        centred = integers - along_axis(entry.params.zero_point, entry.axis, array.ndim).astype(
            object
        )
        columns = np.moveaxis(centred, {"Conv": 0}.get(unit.node.op_type, -1), 0)
        low, high = (q - int(x.params.zero_point) for q in limits(x.dtype))
        stored = bias_integers(values, bias.params, None)
        scales = np.broadcast_to(bias.params.scale, values.shape)
        for column, real, scale, integer in zip(columns, values, scales, stored, strict=True):
            exact = Fraction(float(real)) / Fraction(float(scale))
            assert abs(exact) <= INT32
            assert abs(int(integer) - exact) <= Fraction(1, 2) + Fraction(abs(exact), 2**50)
            weights = column.reshape(-1).tolist()
            most = sum(max(w * low, w * high) for w in weights)
            least = sum(min(w * low, w * high) for w in weights)
            room = INT32 * (1 + Fraction(1, 2**20))  # float32 rounds the scales
            assert most + 2 * abs(exact) <= room
            assert least - 2 * abs(exact) >= -room


magnitudes = st.floats(-30, 20).map(lambda e: 2.0**e)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    weights=st.lists(magnitudes, min_size=3, max_size=3),
    biases=st.lists(magnitudes, min_size=3, max_size=3),
    scale=st.floats(-40, 3).map(lambda e: 2.0**e),
    zero_point=st.sampled_from([0, 3, 128, 255]),
    granularity=st.sampled_from(["tensor", "channel", None]),
)
def test_every_channel_is_proven(seed, weights, biases, scale, zero_point, granularity):
    array = rand(5, 3, seed=seed) * np.asarray(weights, np.float32)
    bias = rand(3, seed=seed + 1) * np.asarray(biases, np.float32)
    model = gemm(array.astype(np.float32), bias.astype(np.float32))
    plan = plan_with(model, scale, zero_point, granularity)
    before = plan.values["w"].params
    sentences = fit_biases(model.graph, plan)
    assert_proven(model, plan)
    after = plan.values["w"].params
    assert before is not None and after is not None
    assert np.all(after.scale >= before.scale)  # never finer, which could overflow elsewhere
    assert bool(sentences) == bool(np.any(after.scale > before.scale))
    assert fit_biases(model.graph, plan) == []  # once is enough


def test_a_healthy_layer_is_left_alone():
    model = gemm(rand(5, 3), rand(3))
    plan = plan_with(model, 0.02, 128)
    before = plan.values["w"]
    assert fit_biases(model.graph, plan) == []
    assert plan.values["w"] is before
    bias, x, w = (plan.values[n].params for n in ("b", "x", "w"))
    assert bias is not None and x is not None and w is not None
    assert np.array_equal(bias.scale, (x.scale * w.scale).astype(np.float32))
    assert not bias.zero_point.any()
    assert (plan.values["b"].granularity, plan.values["b"].axis) == ("channel", 0)


def test_a_tiny_channel_gets_a_coarser_grid_and_the_others_keep_theirs():
    weight, bias = rand(5, 3), rand(3)
    weight[:, 1] = 2e-7
    model = gemm(weight, bias)
    plan = plan_with(model, 0.02, 128)
    before = plan.values["w"].params
    (sentence,) = fit_biases(model.graph, plan)
    assert sentence == (
        "n0_Gemm: the scale of 1 weight channel(s) was raised so that the bias fits in INT32"
    )
    after = plan.values["w"]
    assert after.reason.endswith("; raised so that the bias fits in INT32")
    assert before is not None and after.params is not None
    assert (after.params.scale > before.scale).tolist() == [False, True, False]
    assert_proven(model, plan)
    # What it costs: at most half a step of the raised scale a weight.
    error = 0.5 * float(after.params.scale[1]) * 5 * 255 * 0.02
    assert error < 1e-5 * abs(bias[1])


def test_room_is_left_for_a_correction_as_large_as_the_bias():
    weight, bias = rand(5, 1) * np.float32(1e-9), np.asarray([1.0], np.float32)
    model = gemm(weight, bias)
    plan = plan_with(model, 0.02, 0)
    fit_biases(model.graph, plan)
    params = plan.values["b"].params
    assert params is not None
    assert int(bias_integers(bias, params, bias)[0]) == round(2 / float(params.scale[0])) <= INT32


def test_large_sums_and_a_large_bias_share_the_room():
    # The sum alone takes 0.45 of int32, twice the bias 0.8 of it.
    weight = np.ones((30_000, 1), np.float32)
    step = 0.02 / 127
    model = gemm(weight, np.asarray([0.4 * INT32 * step], np.float32))
    plan = plan_with(model, 0.02, 0)
    assert len(fit_biases(model.graph, plan)) == 1
    assert_proven(model, plan)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_sums_that_overflow_by_themselves(granularity):
    # 100,000 weights at the end of their range: 127 * 255 * 100,000 is 1.5 times 2**31.
    weight = np.ones((100_000, 2), np.float32)
    weight[:, 1] *= -1
    model = gemm(weight, rand(2))
    plan = plan_with(model, 0.02, 0, granularity)
    (sentence,) = fit_biases(model.graph, plan)
    assert f"of {1 if granularity == 'tensor' else 2} weight" in sentence
    assert_proven(model, plan)
    assert fit_biases(model.graph, plan) == []


def test_chosen_integers_are_what_is_proven_and_are_dropped_with_their_scale():
    weight, bias = rand(5, 3) * np.float32(1e-9), rand(3)
    model = gemm(weight, bias)
    plan = plan_with(model, 0.02, 128)
    plan.rounded["w"] = np.full((5, 3), 127, np.int8)
    fit_biases(model.graph, plan)
    assert plan.rounded == {}
    healthy = gemm(rand(5, 3), bias)
    plan = plan_with(healthy, 0.02, 128)
    plan.rounded["w"] = np.full((5, 3), 127, np.int8)
    assert fit_biases(healthy.graph, plan) == []
    assert plan.rounded.keys() == {"w"}


def test_a_weight_of_two_layers_is_proven_for_both():
    text = """g (float[2, 4] x) => (float[2, 4] y) {
        a = Gemm (x, w, b)
        y = Gemm (a, w, big)
    }"""
    constants = {"w": rand(4, 4) * np.float32(1e-6), "b": rand(4), "big": rand(4) * np.float32(1e5)}
    model = parse(text, constants)
    plan = plan_with(model, 0.01, 100)
    fit_biases(model.graph, plan)
    assert_proven(model, plan)


def test_unsigned_weights_and_signed_activations():
    model = gemm(rand(5, 3) * np.float32(1e-9), rand(3))
    plan = plan_with(model, 0.02, 0)
    entry = plan.values["w"]
    assert entry.params is not None
    plan.values["w"] = replace(
        entry, dtype="uint8", params=QuantParams(entry.params.scale, entry.params.zero_point + 128)
    )
    plan.values["x"] = replace(plan.values["x"], dtype="int8")
    fit_biases(model.graph, plan)
    assert_proven(model, plan)


CONVS = {
    "conv": ("Conv <pads = [1, 1, 1, 1]>", (4, 4, 3, 3)),
    "depthwise": ("Conv <group = 4>", (4, 1, 3, 3)),
}


@pytest.mark.parametrize("name", CONVS)
def test_convolutions(name):
    op, shape = CONVS[name]
    text = f"g (float[1, 4, 8, 8] x) => (float[] y) {{ y = {op} (x, w, b) }}"
    weight = rand(*shape)
    weight[2] = 2e-7
    model = parse(text, {"w": weight, "b": rand(4)})
    plan = plan_with(model, 0.02, 10)
    assert len(fit_biases(model.graph, plan)) == 1
    assert_proven(model, plan)


def test_layers_without_a_bias_and_dynamic_ones_are_passed_over():
    text = "g (float[2, 4] x) => (float[2, 4] y) { y = MatMul (x, w) }"
    model = parse(text, {"w": rand(4, 4)})
    plan = plan_with(model, 0.02, 10)
    assert fit_biases(model.graph, plan) == []
    model = gemm(rand(4, 4), rand(4))
    plan = draft(model, scheme="w8a8-dynamic")
    choose_weights(model.graph, plan, TARGET)
    assert fit_biases(model.graph, plan) == []


def test_sums_of_48_bits_leave_the_weights_alone_and_biases_still_fit_in_int32():
    """16-bit activations: the sums need more than 32 bits, the bias is stored in 32."""
    array = np.ones((2048, 2), np.float32) * np.asarray([1.0, 1e-4], np.float32)
    model = gemm(array, np.asarray([1.0, 2.0], np.float32))
    narrow, wide = (plan_with(model, 2.0**-15, 0) for _ in range(2))
    for plan in (narrow, wide):
        entry = plan.values["x"]
        plan.values["x"] = replace(entry, dtype="int16")
    before = wide.values["w"].params
    assert len(fit_biases(model.graph, narrow)) == 1
    assert len(fit_biases(model.graph, wide, 48)) == 1
    after, shrunk = wide.values["w"].params, narrow.values["w"].params
    bias = wide.values["b"].params
    assert before is not None and after is not None and shrunk is not None and bias is not None
    assert after.scale[0] == before.scale[0] < shrunk.scale[0]
    assert after.scale[1] > before.scale[1]
    assert 2 * 2.0 / float(bias.scale[1]) == pytest.approx(INT32, rel=1e-5)
