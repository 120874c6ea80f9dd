"""Schemes of stored weights and few bits a token, which no kernel computes: what they take in."""

from dataclasses import replace
from typing import Final

import onnx_ir as ir

from qcompile.core.plan import TOKEN, QuantPlan
from qcompile.core.stored import stored_weight
from qcompile.core.target import Target
from qcompile.passes.plan.patterns import last_layer

REASON: Final = "embedding and last layer stay float, as where such schemes were published"

_PRODUCTS: Final = frozenset({"MatMul", "Gemm"})


def ends_left_float(graph: ir.Graph) -> dict[str, str]:
    """Node name -> reason: look-ups of tables, and the last layers.

    With them a simulation would show what its ends cost, and not what the layers between do.
    """
    tables = (n for n in graph if n.op_type == "Gather" and not isinstance(stored_weight(n), str))
    heads = (name for place in last_layer.find(graph) for name in place.eased)
    return dict.fromkeys([*(node.name or "" for node in tables), *heads], REASON)


def read_by_token(plan: QuantPlan, target: Target) -> None:
    """Let products with stored weights read tokens with a scale each, of the target's type."""
    for name, node in plan.nodes.items():
        if node.mode == "weights" and node.op in _PRODUCTS:
            plan.nodes[name] = replace(node, activations=f"{target.activations.dtype}{TOKEN}")
