"""A plan with a layer float is as if it had been planned so, and keeps everything else."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.mixed.groups import groups
from qcompile.compiler.mixed.leave_float import leave_float, only
from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.plan import Chosen, QuantParams, QuantPlan
from qcompile.core.target import Target
from qcompile.targets.catalog import load_target
from tests.compiler import small

TARGET: Target = load_target("ort-x86-vnni").under("w8a8")
SCHEME = Scheme(scheme="w8a8")

TEXT = """net (float[1, 4, 8, 8] x) => (float[1, 8, 4, 4] y, float[1, 4, 8, 8] z) {
    a = Conv (x, w1, b1)
    b = Relu (a)
    c = Conv (x, w2, b2)
    d = Add (b, c)
    e = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (d)
    f = Conv (e, w2, b2)
    g = Concat <axis = 1> (e, f)
    y = Relu (g)
    z = Sigmoid (d)
}"""


@pytest.fixture
def model() -> ir.Model:
    weights = {f"w{i}": small.weights(i, 4, 4, 1, 1) for i in (1, 2)}
    biases = {f"b{i}": small.weights(i, 4) for i in (1, 2)}
    proto = small.text_model(TEXT, {**weights, **biases})
    for node in proto.graph.node:
        node.name = node.output[0]
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto))


def replan(model: ir.Model) -> object:
    def planned(chosen: Chosen) -> QuantPlan:
        return empty_plan(model, TARGET, SCHEME, {}, chosen)

    return planned


def finished(model: ir.Model) -> QuantPlan:
    """A plan with made-up parameters, corrections and integers."""
    plan = empty_plan(model, TARGET, SCHEME, {})
    for index, (name, entry) in enumerate(plan.values.items()):
        if entry.params is None:
            scale = np.asarray(0.01 * (index + 1), np.float32)
            plan.values[name] = entry.with_params(QuantParams(scale, np.asarray(0, np.int64)))
    plan.corrections = {"b1": np.ones(4, np.float32), "b2": np.ones(4, np.float32)}
    plan.rounded = {"w1": np.zeros((4, 4, 1, 1), np.int8), "w2": np.zeros((4, 4, 1, 1), np.int8)}
    return plan


def test_choices(model: ir.Model) -> None:
    found = groups(model.graph, finished(model), TARGET)
    assert [g.name for g in found] == ["a", "c", "d", "f", "g", "z"], "a MaxPool only moves"
    conv = found[0]
    assert conv.nodes == ("a", "b")
    assert (conv.macs, conv.weights) == (4 * 4 * 64, 16)
    by_name = {g.name: g.structure for g in found}
    assert by_name["c"] != by_name["a"], "one has a Relu"
    assert by_name["c"] != by_name["f"], "another size"


def test_everything_is_as_if_planned_so(model: ir.Model) -> None:
    plan = finished(model)
    left = leave_float(plan, {"a": "bad"}, replan(model))  # type: ignore[arg-type]
    wanted = empty_plan(model, TARGET, SCHEME, {"a": "bad"})
    assert {n: p.mode for n, p in left.nodes.items()} == {
        n: p.mode for n, p in wanted.nodes.items()
    }
    assert left.nodes["a"].chosen
    assert left.nodes["a"].reason == "bad"
    assert left.nodes["b"].mode == "float", "what it absorbed"
    assert list(left.values) == list(wanted.values)
    assert set(left.corrections) == {"b2"}
    assert set(left.rounded) == {"w2"}
    for name, entry in left.values.items():
        assert entry.params is plan.values[name].params
    assert plan.mode("a") == "integer", "the old plan stays as it is"


def test_one_after_another_or_both_at_once(model: ir.Model) -> None:
    plan, again = finished(model), replan(model)
    one = leave_float(leave_float(plan, {"a": "x"}, again), {"c": "y"}, again)  # type: ignore[arg-type]
    both = leave_float(plan, {"a": "x", "c": "y"}, again)  # type: ignore[arg-type]
    assert one.nodes == both.nodes
    assert list(one.values) == list(both.values)
    assert one.mode("d") == "float", "an Add between floats is an island"


def test_only_one_layer(model: ir.Model) -> None:
    plan = finished(model)
    alone = only(plan, ["a", "b"])
    assert [n for n, p in alone.nodes.items() if p.mode != "float"] == ["a", "b"]
    ops = [node.op_type for node in quantize(model, alone).graph]
    assert ops.count("QuantizeLinear") == 2, "in front of it and behind it"
    stored = [t for t in quantize(model, alone).graph.initializers if t.endswith("_quantized")]
    assert sorted(stored) == ["b1_quantized", "w1_quantized"]


def test_a_weight_that_two_layers_read_stays(model: ir.Model) -> None:
    left = leave_float(finished(model), {"f": "x"}, replan(model))  # type: ignore[arg-type]
    assert "w2" in left.values
