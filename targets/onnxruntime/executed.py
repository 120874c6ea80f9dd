"""Which nodes of a finished model ONNX Runtime executes as integers, with no plan at hand."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from qcompile.core.target import Target
from qcompile.targets.onnxruntime.executor import is_simulated
from qcompile.targets.onnxruntime.prove import SIMULATED, optimized_graph

QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})
_INTEGERS = frozenset(
    {onnx.TensorProto.UINT8, onnx.TensorProto.INT8, onnx.TensorProto.UINT16, onnx.TensorProto.INT16}
)
_INTEGER_KERNELS = (
    "QLinear",
    "QGemm",
    "QAttention",
    "MatMulInteger",
    "ConvInteger",
    "DynamicQuantize",
    "MatMulNBits",
    "GatherBlockQuantized",
)
"""How the names of ops begin that compute with integers whatever their ends are."""
_SCALE_OF_QGEMM = 7
"""The input of a QGemm that holds the scale of its output: without one it gives floats."""


@dataclass(frozen=True)
class Executed:
    """One node of ONNX Runtime's optimized graph."""

    name: str
    op: str
    integer: bool
    reason: str = ""
    """Why it is float."""
    reads: tuple[str, ...] = ()
    """Names of the values it reads, and below of those it makes."""
    makes: tuple[str, ...] = ()


def executed(artefact: bytes | Path, target: Target) -> list[Executed]:
    """The nodes that ONNX Runtime runs, quantizers left out, in its order.

    A kernel that exists for integers only counts by its name; an op that the target's table lists
    as its own integer kernel (Reshape, MaxPool, ArgMax) counts by the type of what it reads,
    followed from the quantizers on.

    Raises:
        QCompileError: RUNTIME_REFUSED when ONNX Runtime does not load the model.
    """
    if is_simulated(artefact):
        return _as_written(artefact)
    graph = optimized_graph(artefact)
    integers = {i.name for i in graph.input if i.type.tensor_type.elem_type in _INTEGERS}
    integers |= {t.name for t in graph.initializer if t.data_type in _INTEGERS}
    found = []
    for node in graph.node:
        if node.op_type in QUANTIZERS:
            if node.op_type != "DequantizeLinear":
                integers.add(node.output[0])
            continue
        by_name = node.op_type.startswith(_INTEGER_KERNELS)
        moves = _moves_integers(node, target) and bool(integers & set(_data_inputs(node)))
        if moves or (by_name and _gives_integers(node)):
            integers.update(node.output)
        integer = by_name or moves
        why = "" if integer else _why_float(node, target)
        found.append(_executed(node, why, integer=integer))
    return found


def _as_written(artefact: bytes | Path) -> list[Executed]:
    """The nodes of a simulation, none of which ONNX Runtime merges with its quantizers."""
    raw = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
    nodes = onnx.load_from_string(raw).graph.node
    computing = (n for n in nodes if n.op_type not in QUANTIZERS)
    return [_executed(node, SIMULATED, integer=False) for node in computing]


def _executed(node: onnx.NodeProto, why: str, *, integer: bool) -> Executed:
    return Executed(node.name, node.op_type, integer, why, tuple(node.input), tuple(node.output))


def is_quantized(model: ir.Model) -> bool:
    """Whether a model computes with integers that stand for real numbers, in any of its graphs."""
    ops = {node.op_type for graph in model.graphs() for node in graph}
    return any(op in QUANTIZERS or op.startswith(_INTEGER_KERNELS) for op in ops)


def _moves_integers(node: onnx.NodeProto, target: Target) -> bool:
    rule = target.rule(node.op_type)
    return rule is not None and node.op_type in rule.kernels


def _gives_integers(node: onnx.NodeProto) -> bool:
    if node.op_type == "QGemm":
        return len(node.input) > _SCALE_OF_QGEMM and bool(node.input[_SCALE_OF_QGEMM])
    return node.op_type.startswith("QLinear")


def _data_inputs(node: onnx.NodeProto) -> Iterator[str]:
    """The inputs that decide what an op moves: all of a Concat, else the first."""
    yield from node.input if node.op_type in {"Concat", "Where"} else node.input[:1]


def _why_float(node: onnx.NodeProto, target: Target) -> str:
    if target.rule(node.op_type) is None:
        return target.why_float(node.op_type)
    return "it computes with floats in this model"
