"""Inserts quantizers into a graph given as text and holds the pass to what it promises."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.plan import QuantParams, QuantPlan
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.shared_groups import resolve_shared
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from tests.passes.planning import EXECUTOR, TARGET, draft
from tests.passes.prepare.checking import parse, rand

PICTURE = "float[1, 4, 8, 8]"
WEIGHTS = {
    "w": rand(4, 4, 1, 1),
    "b": rand(4),
    "k": rand(1, 4, 1, 1),
    "m": rand(8, 8),
    "mb": rand(8),
    "zero": np.float32(0),
    "six": np.float32(6),
    "parts": np.asarray([2, 2], np.int64),
}


def net(body: str, inputs: str = f"{PICTURE} x", outputs: str = "float[] y") -> ir.Model:
    return parse(f"g ({inputs}) => ({outputs}) {{ {body} }}", WEIGHTS)


def any_params(model: ir.Model, plan: QuantPlan) -> QuantPlan:
    """Give every activation parameters of its own, in the order of the plan."""
    for index, (name, entry) in enumerate(plan.values.items()):
        if entry.role == "activation" and entry.params is None:
            scale = np.asarray(2.0**-7 * (index + 1), np.float32)
            zero = 0 if _behind_clamp(model, name) else index
            params = QuantParams(scale, np.asarray(zero, np.int64))
            plan.values[name] = entry.with_params(params)
    choose_weights(model.graph, plan, TARGET)
    resolve_shared(plan)
    fit_biases(model.graph, plan)
    return plan


def _behind_clamp(model: ir.Model, name: str) -> bool:
    return any(
        node.op_type in {"Relu", "Clip"} and node.outputs[0].name == name for node in model.graph
    )


def inserted(
    model: ir.Model, ends: Sequence[str] = (), scheme: str = "w8a8", **options: object
) -> ir.Model:
    """The QDQ graph, held to what the pass promises of every graph."""
    plan = any_params(
        model, draft(model, scheme=scheme, ends="uint8" if ends else "float", **options)
    )
    names = [(v.name, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]
    run = InsertQDQ(plan, frozenset(ends))
    assert run(model).modified
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert [(v.name, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)] == names
    values = [v.name for v in g.values(model.graph)]
    assert len(values) == len(set(values))
    assert all(
        node.name and g.PASS_KEY in node.metadata_props
        for node in model.graph
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}
    )
    once = g.fingerprint(model)
    assert not run(model).modified
    assert g.fingerprint(model) == once
    EXECUTOR.load(model, optimize=False)
    return model


def lines(model: ir.Model) -> list[str]:
    """One line a node, those of constants first; of a quantizer, what it quantizes."""
    short = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ", "DynamicQuantizeLinear": "DynQ"}
    found = []
    for node in model.graph:
        op = short.get(node.op_type, node.op_type)
        inputs = [v.name if v is not None else "" for v in node.inputs]
        given = inputs[:1] if op in {"Q", "DQ"} else inputs
        found.append(f"{node.outputs[0].name} = {op}({', '.join(map(str, given))})")
    return constants_first(found)


def constants_first(found: Sequence[str]) -> list[str]:
    """They may stand anywhere before their reader; the checker sees to that."""
    return sorted(found, key=lambda line: line.split("_dequantized = DQ(")[0] not in WEIGHTS)
