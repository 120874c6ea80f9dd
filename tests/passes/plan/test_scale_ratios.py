"""Scales are raised until every op is inside its ratios, and no further."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.plan import QuantParams, QuantPlan
from qcompile.core.units import units
from qcompile.passes.plan.scale_ratios import fit_scale_ratios
from qcompile.passes.plan.shared_groups import resolve_shared
from qcompile.passes.plan.weights import choose_weights
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.operator_table import operator_table
from tests.passes.planning import draft
from tests.passes.prepare.checking import parse

TARGET = load_target("tflite-arm64")
PICTURE = "float[1, 4, 8, 8]"


def planned(body: str, weight: float = 1.0, **scales: float) -> tuple[ir.Model, QuantPlan]:
    """A plan with these scales of activations (0.1 for the rest) and a weight of one absmax."""
    constants = {"w": np.full((4, 4, 1, 1), weight * 127, np.float32)}
    text = f"g ({PICTURE} x, {PICTURE} x2) => (float[] y) {{ {body} }}"
    model = parse(text, constants)
    plan = draft(model, target=TARGET)
    for name, entry in plan.values.items():
        if entry.role == "activation" and entry.params is None:
            params = QuantParams(
                np.asarray(scales.get(name, 0.1), np.float32), np.asarray(3, np.int64)
            )
            plan.values[name] = entry.with_params(params)
    resolve_shared(plan)
    choose_weights(model.graph, plan, TARGET, "channel")
    return model, plan


def scale(plan: QuantPlan, name: str) -> float:
    params = plan.values[name].params
    assert params is not None
    return float(params.scale)


def ratios(model: ir.Model, plan: QuantPlan) -> list[tuple[float, float, float]]:
    """(least ratio, greatest ratio, ...) of every unit beside its bounds, from first principles."""
    found = []
    for unit in units(model.graph, plan):
        rule = TARGET.ops[unit.node.op_type].scale_ratio
        if rule is None:
            continue
        scales = [
            np.asarray(entry.params.scale, np.float64).max()
            for value in unit.node.inputs
            if value is not None
            and (entry := plan.quantized(value.name)) is not None
            and entry.params is not None
            and entry.role != "bias"
        ]
        out = scale(plan, unit.output.name or "")
        many = [np.prod(scales) / out] if rule.of == "product" else [s / out for s in scales]
        low = 0.0 if rule.of == "product" else rule.low
        found += [(low, float(value), rule.high) for value in many]
    return found


def inside(model: ir.Model, plan: QuantPlan) -> bool:
    return all(low <= value < high for low, value, high in ratios(model, plan))


def test_a_sound_plan_is_left_alone() -> None:
    model, plan = planned("a = Conv (x, w) y = Add (a, x2)")
    before = {name: entry.params for name, entry in plan.values.items()}
    assert fit_scale_ratios(model.graph, plan, TARGET) == []
    assert all(plan.values[name].params is params for name, params in before.items())


def test_a_multiplier_of_256_raises_the_output() -> None:
    model, plan = planned("y = Conv (x, w)", x=1.0, y=1 / 512)
    (sentence,) = fit_scale_ratios(model.graph, plan, TARGET)
    assert sentence.startswith("y: scale raised from 0.00195 to 0.00391: the integer Conv")
    assert scale(plan, "y") == pytest.approx(1 / 256, rel=2e-3)
    assert scale(plan, "x") == 1.0
    assert plan.values["y"].params is not None and plan.values["y"].params.zero_point == 3
    assert inside(model, plan)
    assert fit_scale_ratios(model.graph, plan, TARGET) == [], "idempotent"


def test_a_sum_that_cancels_raises_its_output() -> None:
    model, plan = planned("y = Sub (x, x2)", x=1.0, x2=1.0, y=1e-4)
    assert len(fit_scale_ratios(model.graph, plan, TARGET)) == 1
    assert scale(plan, "y") == pytest.approx(1 / 256, rel=2e-3)


def test_an_input_that_vanishes_is_raised() -> None:
    model, plan = planned("y = Add (x, x2)", x=1e-6, x2=1.0, y=1.0)
    assert len(fit_scale_ratios(model.graph, plan, TARGET)) == 1
    assert scale(plan, "x") == pytest.approx(1 / 1024, rel=2e-3)
    assert scale(plan, "x2") == scale(plan, "y") == 1.0


def test_a_group_is_raised_as_one() -> None:
    body = "c = Conv (x, w) p = MaxPool <kernel_shape = [2, 2]> (c) y = Abs (p)"
    model, plan = planned(body, x=1.0, c=1 / 1024)
    fit_scale_ratios(model.graph, plan, TARGET)
    assert scale(plan, "p") == scale(plan, "c") == pytest.approx(1 / 256, rel=2e-3)


def test_what_a_kernel_sets_stays() -> None:
    model, plan = planned("s = Sigmoid (x) y = Add (s, x2)", x2=1000.0, y=1000.0)
    fit_scale_ratios(model.graph, plan, TARGET)
    assert scale(plan, "s") == 1 / 256


def test_a_raised_output_raises_what_follows() -> None:
    body = "a = Conv (x, w) c = Conv (a, w) y = Conv (c, w)"
    model, plan = planned(body, weight=100.0, x=1.0, a=1e-3, c=1e-3, y=1e-3)
    assert not inside(model, plan)
    assert len(fit_scale_ratios(model.graph, plan, TARGET)) == 3
    assert inside(model, plan)


SCALES = st.floats(-24, 24).map(lambda e: 2.0**e)


@settings(max_examples=60, deadline=None)
@given(a=SCALES, c=SCALES, d=SCALES, y=SCALES, x=SCALES, w=SCALES)
def test_any_plan_ends_inside(a: float, c: float, d: float, y: float, x: float, w: float) -> None:
    body = "a = Conv (x, w) c = Mul (a, x2) d = Add (c, a) y = LeakyRelu (d)"
    model, plan = planned(body, weight=w, x=x, a=a, c=c, d=d, y=y)
    before = {name: scale(plan, name) for name, e in plan.values.items() if e.role == "activation"}
    fit_scale_ratios(model.graph, plan, TARGET)
    assert inside(model, plan)
    assert all(scale(plan, name) >= value for name, value in before.items())
    assert fit_scale_ratios(model.graph, plan, TARGET) == []


@pytest.mark.parametrize("op", [op for op, rule in TARGET.ops.items() if rule.scale_ratio])
def test_the_ratios_are_those_of_the_operators(op: str) -> None:
    rule = TARGET.ops[op]
    stated = {operator_table()[kernel].ratio for kernel in rule.kernels}
    found = {(r.of, r.low, r.high) for r in stated if r is not None}
    assert rule.scale_ratio is not None
    assert found == {(rule.scale_ratio.of, rule.scale_ratio.low, rule.scale_ratio.high)}


def test_targets_without_ratios_change_nothing() -> None:
    model, plan = planned("y = Conv (x, w)", x=1.0, y=1e-6)
    assert fit_scale_ratios(model.graph, plan, load_target("ort-arm64")) == []
