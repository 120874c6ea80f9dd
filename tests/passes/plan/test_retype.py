"""A plan in U8 and the same plan in S8 hold the same numbers."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.affine import asymmetric_params, dequantize, quantize
from qcompile.core.plan import Derived, QuantParams, QuantPlan, ValuePlan
from qcompile.core.target import Numbers
from qcompile.passes.plan.retype import retyped
from qcompile.targets.catalog import load_target

U8 = load_target("ort-x86-avx2")
S8 = replace(U8, name="s8", activations=Numbers("int8"))


def plan(low: float, high: float) -> QuantPlan:
    weight = QuantParams(np.asarray([0.5], np.float32), np.asarray([0]))
    entries = (
        ValuePlan(
            "x", "activation", "uint8",
            params=QuantParams(*asymmetric_params(np.asarray(low), np.asarray(high), "uint8")),
        ),
        ValuePlan("w", "weight", "int8", "channel", 0, params=weight),
        ValuePlan("b", "bias", "int32", relation=Derived("x", "w")),
    )  # fmt: skip
    return QuantPlan("f", U8.name, "w8a8", values={e.name: e for e in entries})


@given(st.floats(-100, 0, width=32), st.floats(0.125, 100, width=32))
def test_both_types_stand_for_the_same_numbers(low: float, high: float) -> None:
    made = plan(low, high)
    signed = retyped(made, S8, "int8")
    x = np.linspace(low - 1, high + 1, 300, dtype=np.float32)
    a, b = made.values["x"], signed.values["x"]
    qa = quantize(x, a.params.scale, a.params.zero_point, a.dtype)
    qb = quantize(x, b.params.scale, b.params.zero_point, b.dtype)
    assert np.array_equal(qa.astype(int) - 128, qb)
    ra = dequantize(qa, a.params.scale, a.params.zero_point)
    assert np.array_equal(ra, dequantize(qb, b.params.scale, b.params.zero_point))


def test_only_activations_change() -> None:
    made = plan(-1, 1)
    signed = retyped(made, S8, "int8")
    assert (signed.target, signed.ends) == ("s8", "int8")
    assert signed.values["w"] is made.values["w"]
    assert signed.values["b"] is made.values["b"]
    assert made.values["x"].dtype == "uint8"


def test_the_same_type_and_a_way_back() -> None:
    made = plan(-1, 2)
    again = retyped(retyped(made, S8, "int8"), U8, "float")
    assert again.values["x"].params.same_as(made.values["x"].params)
    assert retyped(made, U8, "float").values["x"] is made.values["x"]


def test_an_entry_without_parameters_changes_its_type() -> None:
    made = plan(-1, 1)
    made.values["x"] = replace(made.values["x"], params=None)
    assert retyped(made, S8, "int8").values["x"].dtype == "int8"
