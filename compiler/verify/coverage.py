"""The integer proof as the report shows it: what runs as integers, what does not, and why."""

from collections.abc import Iterator, Mapping

import onnx_ir as ir

from qcompile.compiler.kept_state import RECURRENT
from qcompile.compiler.report.model import Coverage, FloatNode, OpCoverage
from qcompile.core import graph as g
from qcompile.core.macs import macs
from qcompile.core.pixels import PIXELS_KEY, pixels_from_json
from qcompile.core.plan import QuantPlan
from qcompile.core.proof import NodeProof, Planned, Proof
from qcompile.core.stored import stored_weights
from qcompile.core.units import COMPUTE_OPS, units
from qcompile.passes.plan.patterns.table import pattern_names
from qcompile.passes.quantize.insert_qdq import VALUE_KEY
from qcompile.passes.quantize.token_scales import products_of_tokens


def integer_names(qdq: ir.Model) -> dict[str, str]:
    """Value of the canonical graph -> the integer value of the QDQ graph that holds it."""
    return {
        node.metadata_props[VALUE_KEY]: node.outputs[0].name or ""
        for node in qdq.graph
        if VALUE_KEY in node.metadata_props
    }


def planned_nodes(model: ir.Model, plan: QuantPlan, qdq: ir.Model) -> list[Planned]:
    """Every node that the plan meant to be integer, and where its result is to be found."""
    names = integer_names(qdq)
    tokens = products_of_tokens(qdq)
    planned = []
    for unit in units(model.graph, plan):
        output = unit.output.name or ""
        results = [*dict.fromkeys((names.get(output, output), output))]
        if plan.mode(unit.node.name) == "dynamic":
            product = tokens.get(unit.node.name or "")
            results = results if product is None else [product]
            # The kernel may also add a constant that follows, and clamp.
            reader = g.only_consumer(unit.output)
            while reader is not None and reader.op_type in {"Add", "Relu", "Clip"}:
                results.append(reader.outputs[0].name or "")
                reader = g.only_consumer(reader.outputs[0]) if reader.op_type == "Add" else None
        own = unit.node.outputs[0].name or "" if unit.absorbed else ""
        planned.append(Planned(unit.node.name or "", unit.node.op_type, tuple(results), own))
    return planned + [_planned_stored(one.node) for one in stored_weights(model.graph, plan)]


def _planned_stored(node: ir.Node) -> Planned:
    """A node whose weight is stored in integers; its kernel may also add a bias that follows."""
    results = [node.outputs[0].name or ""]
    reader = g.only_consumer(node.outputs[0])
    while reader is not None and reader.op_type in {"Add", "Relu", "Clip"}:
        results.append(reader.outputs[0].name or "")
        reader = g.only_consumer(reader.outputs[0]) if reader.op_type == "Add" else None
    return Planned(node.name or "", node.op_type, tuple(results), weights_only=True)


def planned_coverage(model: ir.Model, plan: QuantPlan) -> Coverage:
    """What a plan means to make integer, before anything was built."""
    return coverage(model, plan, Proof((), {}, ""))


def coverage(model: ir.Model, plan: QuantPlan, proof: Proof) -> Coverage:
    """Count the nodes of the canonical graph, and name those that are float.

    An absorbed node counts with the node that does its work, unless the proof says otherwise. Of
    the bodies of If and Loop, which stay float, the nodes count that multiply by weights.
    """
    proofs = {node.name: node for node in proof.nodes}
    patterns = pattern_names(model.graph)
    counts: dict[str, list[int]] = {}
    floats = []
    gone = _not_in_artefact(model, plan)
    for node, why in _with_bodies(model.graph, plan, proofs):
        if node.name in gone:
            continue
        row = counts.setdefault(node.op_type, [0, 0, 0, 0])
        row[0 if why is None else 1] += 1
        row[2 if why is None else 3] += macs(node)
        if why is not None:
            sources = tuple(s for s in g.sources(node) if s != node.name)
            name = node.name or ""
            part = patterns.get(name, "")
            floats.append(
                FloatNode(name=name, op=node.op_type, reason=why, sources=sources, pattern=part)
            )
    ops = tuple(
        OpCoverage(op=op, integer=i, float=f, macs_integer=mi, macs_float=mf)
        for op, (i, f, mi, mf) in sorted(counts.items())
    )
    return Coverage(ops=ops, float_nodes=tuple(floats))


def _with_bodies(
    graph: ir.Graph, plan: QuantPlan, proofs: Mapping[str, NodeProof]
) -> Iterator[tuple[ir.Node, str | None]]:
    """The nodes in order, each with why it is float; behind one with bodies what computes there."""
    for node in graph:
        yield node, _why_float(node, plan, proofs)
        why = f"it is in a body of {node.op_type} {node.name}, and bodies stay float"
        for inner in _inside(node):
            if inner.op_type in COMPUTE_OPS or inner.op_type in RECURRENT:
                yield inner, why


def _inside(node: ir.Node) -> Iterator[ir.Node]:
    """All nodes of a node's subgraphs, and of theirs."""
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            bodies = [attribute.as_graph()]
        elif attribute.type == ir.AttributeType.GRAPHS:
            bodies = list(attribute.as_graphs())
        else:
            continue
        for inner in (node for body in bodies for node in body):
            yield inner
            yield from _inside(inner)


def _not_in_artefact(model: ir.Model, plan: QuantPlan) -> set[str]:
    """Nodes that make of the float model's input what an app feeds as bytes."""
    if plan.ends == "float":
        return set()
    pixels = pixels_from_json(model.metadata_props.get(PIXELS_KEY))
    return {name for one in pixels.values() for name in one.nodes}


def _why_float(node: ir.Node, plan: QuantPlan, proofs: Mapping[str, NodeProof]) -> str | None:
    entry = plan.nodes.get(node.name or "")
    if entry is None:
        return "the scheme leaves everything float"
    if entry.mode == "float":
        return entry.reason
    proof = proofs.get(entry.into or entry.name)
    if proof is None:
        return None
    return (proof.reason if entry.into is None else proof.absorbed or proof.reason) or None
