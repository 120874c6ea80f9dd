"""Which nodes of a finished model ONNX Runtime executes as integers, with no plan at hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx

from qcompile.core.target import Target
from qcompile.targets.onnxruntime.prove import optimized_graph

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_INTEGERS = frozenset(
    {onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16}
)
_ALWAYS_INTEGER = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize")


@dataclass(frozen=True)
class Executed:
    """One node of ONNX Runtime's optimized graph."""

    name: str
    op: str
    integer: bool
    reason: str = ""
    """Why it is float."""


def executed(artefact: bytes | Path, target: Target) -> list[Executed]:
    """The nodes that ONNX Runtime runs, quantizers left out, in its order.

    A kernel that exists for integers only counts by its name; an op that moves whatever it is
    given (Reshape, MaxPool, Concat) counts by the type of what it reads, followed from the
    quantizers on.
    """
    graph = optimized_graph(artefact)
    integers = {i.name for i in graph.input if i.type.tensor_type.elem_type in _INTEGERS}
    integers |= {t.name for t in graph.initializer if t.data_type in _INTEGERS}
    found = []
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DynamicQuantizeLinear"}:
            integers.add(node.output[0])
        if node.op_type in QUANTIZERS:
            continue
        by_name = node.op_type.startswith(_ALWAYS_INTEGER)
        integer = by_name or bool(integers & set(_data_inputs(node)))
        if integer and not node.op_type.endswith("ToFloat"):
            integers.update(node.output)
        why = "" if integer else target.why_float(node.op_type)
        found.append(Executed(node.name, node.op_type, integer, why))
    return found


def _data_inputs(node: onnx.NodeProto) -> Iterator[str]:
    """The inputs that decide what an op moves: all of a Concat, else the first."""
    yield from node.input if node.op_type in {"Concat", "Where"} else node.input[:1]
