"""What the model answers with is never clipped by a range method."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core.plan import QuantPlan, ValuePlan
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.min_max import MinMax
from qcompile.passes.plan.activations import choose_activations
from qcompile.passes.plan.output_values import output_values
from qcompile.passes.plan.ranges.mse import MseRange
from qcompile.targets.catalog import load_target

TARGET = load_target("ort-x86-vnni")


def graph(body: str, outputs: str = "float[1, 8] y") -> ir.Graph:
    text = f"""
      <ir_version: 10, opset_import: ["" : 21]>
      g (float[1, 8] x) => ({outputs}) <float[8, 8] w = {{{", ".join("1" * 64)}}}> {{ {body} }}
    """
    return ir.from_proto(onnx.parser.parse_model(text)).graph


def names(of: ir.Graph) -> set[str | None]:
    return {value.name for value in output_values(of)}


def test_logits_behind_a_softmax_are_an_output():
    assert names(graph("h = Relu(x) l = MatMul(h, w) y = Softmax(l)")) == {"l", "y"}


def test_boxes_and_scores_of_a_concat_are_outputs():
    body = "a = MatMul(x, w) b = Relu(x) s = Sigmoid(b) y = Concat<axis=0>(a, s)"
    assert names(graph(body, "float[2, 8] y")) == {"y", "a", "s", "b"}


def test_arithmetic_ends_the_search():
    assert names(graph("a = MatMul(x, w) y = Add(a, x)")) == {"y"}


@pytest.mark.parametrize("body", ["y = MatMul(x, w)", "l = MatMul(x, w) y = Softmax(l)"])
def test_the_range_of_an_output_holds_all_that_was_seen(body):
    of = graph(body)
    made = "l" if "Softmax" in body else "y"
    plan = QuantPlan("", "", "w8a8")
    bulk = np.random.default_rng(0).normal(0, 1, 1 << 21)
    seen = np.append(bulk, 30.0).astype(np.float32)
    statistics = {}
    for name in ("x", made):
        plan.values[name] = ValuePlan(name, "activation", "uint8")
        statistics[name] = {"minmax": MinMax(), "histogram": Histogram()}
        for statistic in statistics[name].values():
            statistic.update(seen, 0)
    choose_activations(of, plan, TARGET, MseRange(), "mse", statistics)
    highest = {
        name: float((255 - plan.values[name].params.zero_point) * plan.values[name].params.scale)
        for name in ("x", made)
    }
    assert highest["x"] < 20
    assert highest[made] == pytest.approx(30, rel=0.01)
    assert plan.values[made].rule == "minmax of an output"
