"""Corrections without samples are those that samples of the expected distribution would give."""

import numpy as np
import pytest

from qcompile.core.numerics.affine import dequantize
from qcompile.core.plan import NodePlan, QuantParams, QuantPlan, ValuePlan
from qcompile.passes.plan.moments import normal
from qcompile.passes.rounding.expected_bias import expect_biases
from qcompile.passes.rounding.nearest import weight_integers
from tests.passes.prepare.checking import parse, rand

MEAN = np.array([1.0, -2.0, 0.5])


def planned(weight: np.ndarray, scale: float) -> tuple[object, QuantPlan]:
    model = parse(
        "g (float[1, 3, 5, 5] x) => (float[1, 4, 5, 5] y) { y = Conv(x, w, b) }",
        {"w": weight, "b": rand(4)},
    )
    params = QuantParams(np.float32(scale), np.int64(0))
    plan = QuantPlan("", "", "w8a8")
    node = model.graph[0].name or ""
    plan.nodes[node] = NodePlan(node, "Conv", "integer")
    plan.values["w"] = ValuePlan("w", "weight", "int8", symmetric=True, params=params)
    plan.values["b"] = ValuePlan("b", "bias", "int32")
    return model, plan


def test_the_mean_error_of_the_weights_on_the_expected_input() -> None:
    weight = rand(4, 3, 1, 1)
    model, plan = planned(weight, 0.3)
    expect_biases(model.graph, plan, {"x": normal(MEAN, np.ones(3))})  # type: ignore[attr-defined]
    entry = plan.values["w"]
    assert entry.params is not None
    stored = dequantize(weight_integers(weight, entry, None), entry.params.scale, 0, None)
    x = MEAN + np.random.default_rng(0).normal(size=(200_000, 3))
    error = x @ (stored - weight)[:, :, 0, 0].T.astype(np.float64)
    assert plan.corrections["b"] == pytest.approx(-error.mean(axis=0), abs=0.01)
    assert plan.corrections["b"].dtype == np.float32


def test_left_alone() -> None:
    exact = np.float32([[1, -2, 3]] * 4).reshape(4, 3, 1, 1)
    model, plan = planned(exact, 1.0)  # no error, nothing to repair
    expect_biases(model.graph, plan, {"x": normal(MEAN, np.ones(3))})  # type: ignore[attr-defined]
    assert plan.corrections == {}
    model, plan = planned(rand(4, 3, 1, 1), 0.3)  # nothing is known of the input
    expect_biases(model.graph, plan, {})  # type: ignore[attr-defined]
    assert plan.corrections == {}
