"""Units: what an integer node absorbs, its weight and bias, and where its channels lie."""

import onnx_ir as ir
import pytest

from qcompile.core.plan import NodePlan, QuantPlan
from qcompile.core.units import is_point, output_channel_axis, unit_of, units
from tests.passes.prepare.checking import parse, rand


def plan_of(model: ir.Model, **modes: str) -> QuantPlan:
    """``name="integer"`` or ``name="into another"`` for each node; the rest is float."""
    plan = QuantPlan("f", "t", "w8a8")
    for node in model.graph:
        mode = modes.get(node.name or "", "float")
        into = mode.removeprefix("into ") if mode.startswith("into ") else None
        plan.nodes[node.name or ""] = NodePlan(
            node.name or "", node.op_type, "absorbed" if into else mode, into=into
        )
    return plan


CHAIN = """g (float[2, 5, 4] x) => (float[2, 5, 6] y) {
    m = MatMul (x, w)
    a = Add (b, m)
    r = Relu (a)
    y = Relu (r)
}"""


def test_a_unit_ends_where_the_next_node_is_not_absorbed_into_it():
    model = parse(CHAIN, {"w": rand(4, 6), "b": rand(6)})
    matmul, add, relu, last = model.graph
    plan = plan_of(model, n0_MatMul="integer", n1_Add="into n0_MatMul", n2_Relu="into n0_MatMul")
    unit = unit_of(matmul, plan)
    assert unit.nodes == (matmul, add, relu)
    assert unit.output is relu.outputs[0]
    assert unit.weight is matmul.inputs[1]
    assert unit.bias is add.inputs[0]
    assert unit.channel_axis_of_output == -1
    other = plan_of(model, n0_MatMul="integer", n1_Add="into n3_Relu")
    assert unit_of(matmul, other).nodes == (matmul,)
    assert unit_of(matmul, other).bias is None
    assert unit_of(last, other).output is last.outputs[0]


def test_integer_and_dynamic_nodes_begin_units():
    model = parse(CHAIN, {"w": rand(4, 6), "b": rand(6)})
    plan = plan_of(model, n0_MatMul="dynamic", n1_Add="integer", n2_Relu="into n1_Add")
    assert [u.node.name for u in units(model.graph, plan)] == ["n0_MatMul", "n1_Add"]


@pytest.mark.parametrize(
    ("layer", "has_bias", "has_weight", "axis"),
    [
        ("Conv (x, w, b)", True, True, 1),
        ("Conv (x, w)", False, True, 1),
        ("Conv (x, given)", False, False, 1),
        ("Add (x, w)", False, False, -1),
    ],
)
def test_weight_and_bias_of_single_nodes(layer, has_bias, has_weight, axis):
    text = f"g (float[1, 4, 4, 4] x, float[4, 4, 1, 1] given) => (float[] y) {{ y = {layer} }}"
    model = parse(text, {"w": rand(4, 4, 1, 1), "b": rand(4)})
    unit = unit_of(model.graph[0], plan_of(model))
    assert (unit.bias is not None) == has_bias
    assert (unit.weight is not None) == has_weight
    assert unit.channel_axis_of_output == axis


def test_a_reader_in_a_subgraph_ends_a_unit():
    model = parse(
        """g (float[4] x, bool c) => (float[4] y) {
            a = Add (x, x)
            y = If (c) <then_branch = t () => (float[4] t0) { t0 = Relu (a) },
                        else_branch = e () => (float[4] e0) { e0 = Neg (k) }>
        }""",
        {"k": rand(4)},
    )
    add = model.graph[0]
    inner = add.outputs[0].uses()[0].node
    plan = plan_of(model, n0_Add="integer")
    plan.nodes[inner.name or ""] = NodePlan(inner.name or "", "Relu", "absorbed", into="n0_Add")
    assert unit_of(add, plan).nodes == (add,)


@pytest.mark.parametrize(
    ("op", "attributes", "rank", "axis"),
    [
        ("Conv", {}, 4, 0),
        ("ConvTranspose", {}, 4, 1),
        ("Gemm", {}, 2, 1),
        ("Gemm", {"transB": 0}, 2, 1),
        ("Gemm", {"transB": 1}, 2, 0),
        ("MatMul", {}, 2, 1),
        ("MatMul", {}, 3, None),
        ("MatMul", {}, 1, None),
        ("Add", {}, 2, None),
    ],
)
def test_the_axis_of_output_channels(op, attributes, rank, axis):
    assert output_channel_axis(ir.node(op, [], attributes), rank) == axis


@pytest.mark.parametrize(
    ("of", "out", "node", "expected"),
    [
        ("N, 4, 1, 1", "N, 6, 1, 1", "Conv (x, w)", True),
        ("N, 4, 3, 3", "N, 6, 3, 3", "Conv (x, w)", False),
        ("N, 4, H, W", "N, 6, H, W", "Conv (x, w)", False),
        ("N, 4, 1, 1", "N, 6, 3, 3", "Conv <pads = [1, 1, 1, 1]> (x, w)", False),
        ("N, 8, 1, 1", "N, 6, 1, 1", "Conv <group = 2> (x, w)", False),
        ("N, 4, 2, 2", "N, 6, 1, 1", "Conv (x, taps)", False),
        ("N, 4, 1, 1", "N, 6, 1, 1", "ConvTranspose (x, turned)", False),
    ],
)
def test_a_conv_of_one_tap_and_position_is_a_point(of, out, node, expected):
    constants = {"w": rand(6, 4, 1, 1), "taps": rand(6, 4, 2, 2), "turned": rand(4, 6, 1, 1)}
    model = parse(f"g (float[{of}] x) => (float[{out}] y) {{ y = {node} }}", constants)
    assert is_point(model.graph[0]) is expected
