"""What is counted as integer, what as float, and why."""

import numpy as np

from qcompile.compiler.verify.coverage import coverage, planned_coverage, planned_nodes
from qcompile.core.graph import SOURCE_KEY
from qcompile.core.plan import NodePlan, QuantPlan
from qcompile.core.proof import NodeProof, Proof
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.prove import prove
from tests.compiler import small
from tests.passes.prepare.checking import parse, rand

AVX2 = load_target(small.TARGET)


def graph() -> object:
    model = parse(
        """g (float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) {
            c = Conv (x, w)
            r = Relu (c)
            y = Tanh (r)
        }""",
        {"w": rand(4, 3, 3, 3)},
    )
    for node, name in zip(model.graph, ("conv", "relu", "tanh"), strict=True):
        node.name = name
    model.graph.node(0).metadata_props[SOURCE_KEY] = "layer/conv\nlayer/bn"
    return model


def plan() -> QuantPlan:
    nodes = (
        NodePlan("conv", "Conv", "integer"),
        NodePlan("relu", "Relu", "absorbed", into="conv"),
        NodePlan("tanh", "Tanh", "float", "no integer Tanh"),
    )
    return QuantPlan("", small.TARGET, "w8a8", nodes={n.name: n for n in nodes})


def test_a_plan_that_is_proven() -> None:
    found = planned_coverage(graph(), plan())  # type: ignore[arg-type]
    assert [(o.op, o.integer, o.float) for o in found.ops] == [
        ("Conv", 1, 0),
        ("Relu", 1, 0),
        ("Tanh", 0, 1),
    ]
    assert [(n.name, n.reason) for n in found.float_nodes] == [("tanh", "no integer Tanh")]
    assert found.macs_share == 1.0


def test_what_is_not_proven_is_float_with_all_that_it_absorbed() -> None:
    proof = Proof((NodeProof("conv", "Conv", False, "Conv", "it runs as Conv"),), {}, "")
    found = coverage(graph(), plan(), proof)  # type: ignore[arg-type]
    assert found.integer == 0
    reasons = {n.name: (n.reason, n.sources) for n in found.float_nodes}
    assert reasons["conv"] == ("it runs as Conv", ("layer/conv", "layer/bn"))
    assert reasons["relu"] == ("it runs as Conv", ())
    assert found.macs_share == 0.0
    (row,) = [o for o in found.ops if o.op == "Conv"]
    assert (row.macs_integer, row.macs_float) == (0, 6 * 6 * 4 * 3 * 3 * 3)


def test_what_was_absorbed_can_be_float_alone() -> None:
    proof = Proof((NodeProof("conv", "Conv", True, "QLinearConv", "", "it runs as Relu"),), {}, "")
    found = coverage(graph(), plan(), proof)  # type: ignore[arg-type]
    assert {n.name: n.reason for n in found.float_nodes} == {
        "relu": "it runs as Relu",
        "tanh": "no integer Tanh",
    }
    assert found.macs_share == 1.0


def test_no_plan_leaves_all_float() -> None:
    found = planned_coverage(graph(), QuantPlan("", small.TARGET, "float"))  # type: ignore[arg-type]
    assert {n.reason for n in found.float_nodes} == {"the scheme leaves everything float"}


def test_a_quantizer_that_got_lost_is_reported() -> None:
    """A fault of ours in the QDQ graph must show in the report, not in the field."""
    result = small.digits()
    qdq = result.qdq.clone()
    convs = [n for n in qdq.graph if n.op_type == "Conv"]
    (quantizer,) = [u.node for u in _behind(convs[1]).uses()]
    (dequantizer,) = [u.node for u in quantizer.outputs[0].uses()]
    dequantizer.outputs[0].replace_all_uses_with(quantizer.inputs[0])
    artefact = lower(qdq, AVX2)
    # The canonical graph is not kept by the result: names of nodes are enough for this question.
    proof = prove(artefact, planned_nodes(_canonical(), result.plan, qdq), AVX2)
    failed = {n.name: n.reason for n in proof.failures}
    assert "03_Conv" in failed
    assert "00_Conv" not in failed


def _behind(conv: object) -> object:
    (relu,) = [u.node for u in conv.outputs[0].uses()]  # type: ignore[attr-defined]
    return relu.outputs[0]


def _canonical() -> object:
    from qcompile.compiler.importers.onnx import load_onnx
    from qcompile.compiler.options import Scheme
    from qcompile.compiler.pipeline import prepare

    return prepare(load_onnx(small.DIGITS / "digits.onnx"), Scheme())


def test_every_planned_node_of_the_example_is_proven() -> None:
    result = small.digits()
    planned = planned_nodes(_canonical(), result.plan, result.qdq)  # type: ignore[arg-type]
    proof = prove(result.artefact, planned, AVX2)
    assert proof.failures == ()
    integer = [n for n, p in result.plan.nodes.items() if p.mode == "integer"]
    assert [n.name for n in proof.nodes] == integer
    assert np.all([n.kernel for n in proof.nodes])


def test_what_computes_in_a_body_is_counted_and_named() -> None:
    model = parse(
        """g (float[1, 3, 8, 8] x, bool b) => (float[1, 4, 6, 6] y) {
            y = If (b) <
                then_branch = t () => (float[1, 4, 6, 6] p) { p = Conv (x, w) },
                else_branch = e () => (float[1, 4, 6, 6] r) { q = Conv (x, w) r = Relu (q) }
            >
        }""",
        {"w": rand(4, 3, 3, 3)},
    )
    node = model.graph.node(0)
    node.name = "branch"
    for attribute, name in zip(node.attributes.values(), ("left", "right"), strict=True):
        attribute.as_graph().node(0).name = name
    plan = QuantPlan("", small.TARGET, "w8a8")
    plan.nodes["branch"] = NodePlan("branch", "If", "float", "it has bodies")
    found = planned_coverage(model, plan)
    assert [(o.op, o.integer, o.float) for o in found.ops] == [("Conv", 0, 2), ("If", 0, 1)]
    assert {n.name: n.reason for n in found.float_nodes} == {
        "branch": "it has bodies",
        "left": "it is in a body of If branch, and bodies stay float",
        "right": "it is in a body of If branch, and bodies stay float",
    }
