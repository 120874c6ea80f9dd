"""Ranges of single activations are scaled; what takes after others, or a kernel sets, is left."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.affine import asymmetric_params, limits, symmetric_params
from qcompile.core.plan import Fixed, QuantParams, QuantPlan, Shared, ValuePlan
from qcompile.passes.plan.range_factors import is_free, scale_ranges


def entry(name: str, low: float, high: float, dtype: str = "uint8") -> ValuePlan:
    params = asymmetric_params(np.asarray(low), np.asarray(high), dtype)
    return ValuePlan(name, "activation", dtype, rule="minmax").with_params(QuantParams(*params))


def plan_of(*entries: ValuePlan) -> QuantPlan:
    return QuantPlan("", "", "w8a8", values={e.name: e for e in entries})


def ends(found: ValuePlan) -> tuple[float, float]:
    assert found.params is not None
    low, high = limits(found.dtype)
    scale, zero = float(found.params.scale), int(found.params.zero_point)
    return (low - zero) * scale, (high - zero) * scale


@given(
    st.floats(0, 50), st.floats(0.01, 50), st.floats(0.25, 4), st.sampled_from(["uint8", "int8"])
)
def test_both_ends_move_by_the_factor(low, high, factor, dtype):
    plan = plan_of(entry("x", -low, high, dtype))
    before, step = ends(plan.values["x"]), float(plan.values["x"].params.scale)
    scale_ranges(plan, {"x": factor})
    after = ends(plan.values["x"])
    assert after == pytest.approx([end * factor for end in before], abs=1.5 * step * factor)
    assert plan.values["x"].rule == f"minmax x {factor:g}"


def test_a_symmetric_range_stays_symmetric():
    params = QuantParams(*symmetric_params(np.asarray(3.0), "int16"))
    symmetric = replace(entry("x", -1, 1, "int16"), symmetric=True).with_params(params)
    plan = plan_of(symmetric)
    scale_ranges(plan, {"x": 0.5})
    assert plan.values["x"].params.scale == pytest.approx(params.scale / 2, rel=1e-6)
    assert plan.values["x"].params.zero_point == 0


def test_followers_take_after_their_leader_and_have_no_factor_of_their_own():
    follower = replace(entry("y", 0, 6), relation=Shared("x"))
    plan = plan_of(entry("x", 0, 6), follower)
    scale_ranges(plan, {"x": 0.5, "y": 0.1})
    assert plan.values["y"].params.same_as(plan.values["x"].params)
    assert ends(plan.values["y"])[1] == pytest.approx(3.0, rel=1e-5)


def test_what_a_kernel_sets_and_what_is_no_activation_stay():
    fixed = replace(entry("p", 0, 1), relation=Fixed("Softmax"))
    weight = replace(entry("w", -1, 1, "int8"), role="weight")
    plan = plan_of(fixed, weight)
    scale_ranges(plan, {"p": 0.5, "w": 0.5, "unknown": 0.5})
    assert plan.values["p"] is fixed
    assert plan.values["w"] is weight
    assert not is_free(fixed)
    assert not is_free(weight)
