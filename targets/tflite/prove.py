"""The integer proof of a TFLite file: types of all tensors, and what XNNPACK really took."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from qcompile.core.proof import NodeProof, Planned, Proof
from qcompile.core.target import Target
from qcompile.targets.tflite.operator_table import operator_table
from qcompile.targets.tflite.reading import Graph, Operator, read_graph
from qcompile.targets.tflite.rules import QUANTIZED, Seen, ratios
from qcompile.targets.tflite.runtime import open_interpreter, runtime_name
from qcompile.targets.tflite.verifier import seen

_FLOATS = frozenset({"float16", "bfloat16", "float32", "float64"})
_SHAPES = frozenset({"RESHAPE", "SQUEEZE"})
BETWEEN_TYPES = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class OperatorProof:
    """One operator of the file."""

    index: int
    op: str
    results: tuple[str, ...]
    """Names of its outputs."""
    integer: bool
    """Whether it reads and makes no floats, or makes integers of them as it runs (hybrid)."""
    delegated: bool
    """Whether XNNPACK runs it."""
    reason: str = ""
    """Why XNNPACK does not."""
    sources: tuple[str, ...] = ()
    """Names of its inputs; those that are left out are missing."""

    @property
    def source(self) -> str:
        """Name of its first input."""
        return next(iter(self.sources), "")


@dataclass(frozen=True)
class Executed:
    """What a runtime makes of a file."""

    operators: tuple[OperatorProof, ...]
    floats: tuple[str, ...]
    """Names of the tensors between inputs and outputs that hold floats."""
    float_ends: tuple[str, ...]
    """Names of the inputs and outputs that do."""
    runtime: str

    @property
    def is_integer_only(self) -> bool:
        """Whether nothing between the inputs and the outputs is float."""
        return not self.floats

    @property
    def kernels(self) -> Mapping[str, int]:
        """Operator -> how many there are."""
        return dict(sorted(Counter(o.op for o in self.operators).items()))

    @property
    def delegated(self) -> int:
        """How many operators XNNPACK runs."""
        return sum(o.delegated for o in self.operators)

    @property
    def left(self) -> tuple[OperatorProof, ...]:
        """The operators that XNNPACK leaves to the built-in kernels."""
        return tuple(o for o in self.operators if not o.delegated)


def executed(artefact: bytes | Path) -> Executed:
    """Look into a file, load it under LiteRT and ask which operators its delegate took.

    Raises:
        QCompileError: MODEL_INVALID when it is no TFLite file, RUNTIME_REFUSED when LiteRT does not
            load it, MISSING_EXTRA without LiteRT.
    """
    graph = read_graph(artefact.read_bytes() if isinstance(artefact, Path) else artefact)
    taken = _delegated_results(artefact)
    ends = {*graph.inputs, *graph.outputs}
    floats = [t for t in graph.tensors if t.dtype in _FLOATS and not t.is_constant]
    used = {i for op in graph.operators for i in (*op.inputs, *op.outputs)} | ends
    return Executed(
        tuple(_operator(graph, op, taken) for op in graph.operators),
        tuple(t.name for t in floats if t.index in used and t.index not in ends),
        tuple(t.name for t in floats if t.index in ends),
        runtime_name(),
    )


def prove(artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
    """Look up every planned node in the file.

    A node is integer when the operator that makes its result reads and makes integers alone. One
    without an operator of its own (a Reshape, a Transpose that only renumbers) is integer too.

    Args:
        artefact: the finished model, its bytes or its path.
        planned: the nodes to look up; names of ``results`` that are no tensor are passed over.
        target: what the artefact is for.
    """
    found = executed(artefact)
    makers = {name: operator for operator in found.operators for name in operator.results}
    for back in found.operators:
        if back.op == "DEQUANTIZE" and back.source in makers:  # a float end: who made the integers
            makers |= dict.fromkeys(back.results, makers[back.source])
    nodes = tuple(_prove_node(node, makers, target) for node in planned)
    return Proof(nodes, found.kernels, found.runtime)


def _prove_node(node: Planned, makers: Mapping[str, OperatorProof], target: Target) -> NodeProof:
    maker = next((makers[name] for name in node.results if name in makers), None)
    if maker is None:
        rule = target.rule(node.op)
        gone = rule is not None and rule.same_parameters
        why = "" if gone else "its result does not appear in the file"
        return NodeProof(node.name, node.op, gone, "", why)
    if node.weights_only and maker.op in _SHAPES and maker.source in makers:
        maker = makers[maker.source]
    if maker.integer:
        return NodeProof(node.name, node.op, True, maker.op)
    why = "its result is quantized from floats" if maker.op in BETWEEN_TYPES else ""
    return NodeProof(node.name, node.op, False, maker.op, why or f"{maker.op} works on floats")


def _delegated_results(artefact: bytes | Path) -> frozenset[int]:
    """Tensors that operators of the delegate make, each a delegated operator of its own."""
    interpreter = open_interpreter(artefact, one_by_one=True)
    return frozenset(
        int(index)
        for entry in interpreter._get_ops_details()  # LiteRT has no public list
        if entry["op_name"] == "DELEGATE"
        for index in entry["outputs"]
    )


def _operator(graph: Graph, operator: Operator, taken: frozenset[int]) -> OperatorProof:
    operands = [graph.tensor(i) for i in (*operator.inputs, *operator.outputs)]
    integer = not any(t is not None and t.dtype in _FLOATS for t in operands)
    integer = integer or is_hybrid(graph, operator)
    delegated = bool(operator.outputs) and operator.outputs[0] in taken
    names = tuple(graph.tensors[i].name for i in operator.outputs)
    reason = "" if delegated else why_not_delegated(graph, operator)
    sources = tuple(t.name for i in operator.inputs if (t := graph.tensor(i)) is not None)
    return OperatorProof(operator.index, operator.name, names, integer, delegated, reason, sources)


def is_hybrid(graph: Graph, operator: Operator) -> bool:
    """Whether an operator multiplies integers although its data are floats: it quantizes them as
    it runs, by a scale for each row.
    """
    row = operator_table().get(operator.name)
    if row is None or "weight" not in row.inputs:
        return False
    weight = graph.tensor(operator.inputs[row.inputs.index("weight")])
    return weight is not None and weight.dtype in QUANTIZED


def why_not_delegated(graph: Graph, operator: Operator) -> str:
    """Why XNNPACK leaves an operator to the built-in kernels, as far as the table knows."""
    looked_at = seen(graph, operator, operator_table())
    if looked_at is None:
        return f"{operator.name} is not in the operator table"
    return _reason(looked_at)


def _reason(op: Seen) -> str:
    if any(tensor.dtype == "int16" for tensor in op.data):
        return "XNNPACK takes no int16 activations"
    ratio = op.row.ratio
    outside = [v for v in ratios(op) if ratio is not None and not ratio.low <= v < ratio.high]
    if outside:
        return f"{op.row.declines} (here {outside[0]:.3g})"
    if op.row.declines and op.integers:
        return op.row.declines
    types = ", ".join(sorted({tensor.dtype for tensor in op.data}))
    return f"XNNPACK does not take {op.operator.name} on {types or 'these types'}"
