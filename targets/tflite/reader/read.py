"""A TFLite file becomes an ONNX model: tensors by the rules of the file, operators by the table."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.targets.tflite.operator_table import operator_table
from qcompile.targets.tflite.reader.batch import keeps_batch, opens_batch
from qcompile.targets.tflite.reader.check import check_graph
from qcompile.targets.tflite.reader.context import Context
from qcompile.targets.tflite.reader.dilation import merge_dilations
from qcompile.targets.tflite.reader.folding import fold
from qcompile.targets.tflite.reader.quantizing import TYPES, is_quantized
from qcompile.targets.tflite.reader.table import READERS
from qcompile.targets.tflite.reading import Graph, Operator, Tensor, read_graph
from qcompile.targets.tflite.shapes import SHAPES, Operands

OPSET: Final = 21
BATCH: Final = "batch"
"""Name of the open first dimension."""
_IR_VERSION: Final = 10
_SHAPE_OPERAND: Final[Mapping[str, int]] = {"RESHAPE": 1, "TRANSPOSE_CONV": 0}
"""Operators whose reader takes no batch from the operand that says the shape."""
_DAMAGE: Final = (
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    ArithmeticError,
    struct.error,
)
"""What arithmetic on shapes, axes and options of a damaged file runs into."""


@dataclass(frozen=True)
class Read:
    """An ONNX model, and what is to be said of it."""

    model: ir.Model
    notes: tuple[Note, ...]
    quantized: int
    """Tensors of the file whose integers stand for real numbers."""


class _FixedBatchError(Exception):
    """An operator mixes samples: the batch must be what the file has."""


def read_model(
    data: bytes,
    signature: str | None = None,
    shapes: Mapping[str, Sequence[int]] | None = None,
) -> Read:
    """Turn a TFLite file into an ONNX model of opset 21 in QDQ form.

    The ends keep their names, types and layout; inside, pictures have channels first. Scales and
    zero points are those of the file: QuantizeLinear and DequantizeLinear on what is computed,
    DequantizeLinear on constants. A batch that the file leaves open stays open where every operator
    treats samples one by one.

    Args:
        data: the file.
        signature: which of its signatures [the first graph].
        shapes: input name -> full shape, for inputs with open dimensions beside the batch.

    Raises:
        QCompileError: MODEL_INVALID or MODEL_CYCLIC for a damaged file, UNKNOWN_OP for a custom
            operator or one that is not in the table, IMPORT_FAILED for a form of an operator that
            ONNX does not have, BAD_OPTION for an unknown signature, SHAPE_NOT_STATIC and
            SHAPE_CONFLICT for shapes that are missing or do not fit. Each names the operator.
    """
    graph = read_graph(data, signature)
    check_graph(graph)
    graph = merge_dilations(graph)
    try:
        return _read(graph, shapes or {}, open_batch=True)
    except _FixedBatchError as reason:
        name, node = reason.args
        note = Note("info", f"the batch is fixed to 1: {name} mixes samples", node)
        read = _read(graph, shapes or {}, open_batch=False)
        return Read(read.model, (note, *read.notes), read.quantized)


def _read(graph: Graph, shapes: Mapping[str, Sequence[int]], *, open_batch: bool) -> Read:
    ctx = Context(graph, open_batch)
    names = (_end_names(graph, 0), _end_names(graph, 1))
    for name in (*names[0].values(), *names[1].values()):
        ctx.unique(name)
    for index in graph.inputs:
        _fix_shape(ctx, index, names[0][index], shapes)
    inputs = [_input(ctx, index, names[0][index]) for index in graph.inputs]
    needed = _needed(graph)
    for op in graph.operators:
        if op.index in needed:
            _operator(ctx, op)
    ctx.enter(None)
    ends = list(inputs)
    for index in dict.fromkeys(graph.outputs):
        ends.append(_output(ctx, index, names[1][index], ends))
    outputs = ends[len(inputs) :]
    made = ir.Graph(
        inputs,
        outputs,
        nodes=_used(ctx.nodes, outputs),
        initializers=[v for v in ctx.initializers if v.uses()],
        opset_imports={"": OPSET},
        name="tflite",
    )
    model = ir.Model(made, ir_version=_IR_VERSION, producer_name="qcompile")
    quantized = sum(is_quantized(t) for t in graph.tensors)
    notes = []
    if ctx.hybrid:
        what = f"{ctx.hybrid} operators of the file quantize their data as they run (hybrid)"
        notes = [Note("info", f"{what}: here only their weights are integers, the data floats")]
    return Read(model, tuple(notes), quantized)


def _is_hybrid(ctx: Context, op: Operator) -> bool:
    """Whether floats meet weights that are integers."""
    row = operator_table().get(op.name)
    if row is None or "weight" not in row.inputs or ctx.result(op).dtype != "float32":
        return False
    return is_quantized(ctx.operand(op, row.inputs.index("weight")))


def _end_names(graph: Graph, side: int) -> dict[int, str]:
    """Tensor -> the name of an end: the signature's where it names all of them, else its own."""
    ends = (graph.inputs, graph.outputs)[side]
    chosen = graph.signature if graph.signature is not None else next(iter(graph.signatures), None)
    entries = {} if chosen is None else graph.signatures[chosen][side]
    told = {index: name for name, index in entries.items() if name}
    if set(told) != set(ends):
        told = {i: graph.tensors[i].name or f"tensor_{i}" for i in ends}
    if len(set(told.values())) != len(told):
        told = {index: f"{name}_{index}" for index, name in told.items()}
    return told


def _fix_shape(ctx: Context, index: int, name: str, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give an input with open dimensions beside the batch the shape that the user names."""
    tensor = ctx.tensors[index]
    told = tensor.signature if len(tensor.signature) == len(tensor.shape) else tensor.shape
    if -1 not in told[1:]:
        return
    given = shapes.get(name)
    if given is None:
        raise QCompileError(
            Code.SHAPE_NOT_STATIC,
            f"the input {name} of shape {told} has dimensions that are not known",
            hint=f"--shape {name}=" + ",".join("N" if n < 0 else str(n) for n in told),
        )
    if len(given) != len(told) or any(
        n not in (-1, g) for n, g in zip(told[1:], given[1:], strict=True)
    ):
        raise QCompileError(
            Code.SHAPE_CONFLICT, f"the input {name} has the shape {told}, not {tuple(given)}"
        )
    ctx.correct(index, (tensor.shape[0], *given[1:]))
    ctx.resized = True


def _needed(graph: Graph) -> set[int]:
    """Operators that an output depends on."""
    makers = {index: op for op in graph.operators for index in op.outputs}
    todo, needed = list(graph.outputs), set[int]()
    while todo:
        op = makers.get(todo.pop())
        if op is None or op.index in needed:
            continue
        needed.add(op.index)
        todo += op.inputs
    return needed


def _operator(ctx: Context, op: Operator) -> None:
    ctx.enter(op)
    if op.name.startswith("custom:"):
        raise QCompileError(
            Code.UNKNOWN_OP,
            f"the model has a custom operator, {op.name.partition(':')[2]!r}: what it computes is "
            "not in the file",
            node=ctx.node,
            hint="export the model with TFLite's builtin operators alone",
        )
    read = READERS.get(op.name)
    if read is None and op.name != "SHAPE":
        raise QCompileError(
            Code.UNKNOWN_OP, f"there is no reader for the TFLite operator {op.name}", node=ctx.node
        )
    try:
        _correct_shapes(ctx, op)
        if fold(ctx, op):
            return
        _follow_batch(ctx, op)
        if read is not None:
            read(ctx, op)
            ctx.hybrid += _is_hybrid(ctx, op)
    except _DAMAGE as error:
        raise ctx.invalid(f"{op.name}: {error or type(error).__name__}") from error


def _correct_shapes(ctx: Context, op: Operator) -> None:
    """Give the outputs the shapes that follow from the operands, as runtimes do when they load."""
    row = operator_table().get(op.name)
    follows = SHAPES.get(row.shape) if row is not None else None
    if follows is None:  # its reader finds it
        return
    if not _tells_shape(ctx, op):
        if ctx.resized:
            raise ctx.refuse(f"the shape of {op.name} does not follow from that of the input")
        return
    inputs = [ctx.tensors[i] if i >= 0 else None for i in op.inputs]
    while inputs and inputs[-1] is None:
        inputs.pop()
    shape = follows(Operands(tuple(inputs), _Options(op.options)))
    for index in op.outputs:
        ctx.correct(index, shape)


def _tells_shape(ctx: Context, op: Operator) -> bool:
    """Whether an operator whose shape stands in an operand has it as a constant or an option."""
    if op.name != "RESHAPE" or not ctx.has(op, 1):
        return True
    return ctx.operand(op, 1).is_constant


class _Options(dict[str, object]):
    """Options of which a field that the file leaves out is its default, 0."""

    def __missing__(self, key: str) -> int:
        return 0


def _follow_batch(ctx: Context, op: Operator) -> None:
    told = _SHAPE_OPERAND.get(op.name)
    read = [index for place, index in enumerate(op.inputs) if place != told]
    if not ctx.counted.isdisjoint(read):
        raise _FixedBatchError(op.name, ctx.node)
    if ctx.dynamic.isdisjoint(op.inputs):
        return
    if not keeps_batch(ctx, op):
        raise _FixedBatchError(op.name, ctx.node)
    ctx.dynamic.update(op.outputs)


def _input(ctx: Context, index: int, name: str) -> ir.Value:
    tensor = ctx.tensors[index]
    kind = _type_of_end(tensor, name)
    dims: list[int | str] = list(tensor.shape)
    if ctx.open_batch and opens_batch(ctx, index):
        ctx.dynamic.add(index)
        dims[0] = BATCH
    value = ir.Value(name=name, shape=ir.Shape(dims), type=ir.TensorType(kind))
    ctx.hold_stored(index, value, tuple(range(len(dims))))
    return value


def _output(ctx: Context, index: int, name: str, ends: list[ir.Value]) -> ir.Value:
    value = ctx.stored_end(index)
    if value in ends or value.producer() is None:
        value = ctx.add("Identity", [value])
    value.name = name
    tensor = ctx.tensors[index]
    dims: list[int | str] = list(tensor.shape)
    if index in ctx.dynamic:
        dims[0] = BATCH
    value.shape, value.type = ir.Shape(dims), ir.TensorType(_type_of_end(tensor, name))
    return value


def _type_of_end(tensor: Tensor, name: str) -> ir.DataType:
    kind = TYPES.get(tensor.dtype)
    if kind is None:
        raise QCompileError(
            Code.IMPORT_FAILED, f"{name}, an end of the model, is of type {tensor.dtype}"
        )
    return kind


def _used(nodes: list[ir.Node], outputs: list[ir.Value]) -> Iterator[ir.Node]:
    """Nodes that an output depends on, in order."""
    todo = [value.producer() for value in outputs]
    seen = set[ir.Node]()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        todo += [value.producer() for value in node.inputs if value is not None]
    unused = [node for node in reversed(nodes) if node not in seen]
    for node in unused:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
    return (node for node in nodes if node in seen)
