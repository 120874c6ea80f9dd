"""QDQ (or float) graph in, finished TFLite model out; nothing else is read."""

import json
from dataclasses import dataclass
from typing import Literal

import onnx_ir as ir

from qcompile.core.app_info import APP_KEY, AppInfo
from qcompile.core.backend import TARGET_KEY
from qcompile.core.notes import Note
from qcompile.core.pixels import PIXELS_KEY
from qcompile.core.target import Target
from qcompile.targets.absorb_clamps import AbsorbClamps
from qcompile.targets.tflite import qdq
from qcompile.targets.tflite.app_metadata import METADATA_KEY, metadata, with_files
from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.context import Context
from qcompile.targets.tflite.layout import Perm, channels_last, identity
from qcompile.targets.tflite.operator_table import oldest_with
from qcompile.targets.tflite.split_clamps import SplitClamps
from qcompile.targets.tflite.table import LOWERINGS
from qcompile.targets.tflite.unit import unit_of, widens
from qcompile.targets.tflite.wishes import wish

IoLayout = Literal["nhwc", "nchw"]
"""How ends of rank 3 and more are stored: channels last where the operators next to them have
them so, or always in the order of ONNX."""

LAYOUT_KEY = "qcompile.layout"
"""Metadata of an artefact: JSON, name of an end -> its order of axes where that is not ONNX's."""
_VERSION_KEY, _VERSION_BYTES = "min_runtime_version", 16
_FORM = frozenset({"QuantizeLinear", "DequantizeLinear", qdq.DYNAMIC, "Constant"})


@dataclass(frozen=True, eq=False)
class End:
    """An input or output as the runtime has it."""

    name: str
    """Of the ONNX graph; the signature's as well."""
    tensor: str
    dtype: str
    quantization: Quantization | None
    shape: tuple[int, ...]
    """Logical, in the order of ONNX."""
    perm: Perm
    """``np.transpose(logical, perm)`` is what the tensor takes."""


@dataclass(frozen=True)
class Ends:
    """All of them, in the order of the file."""

    inputs: tuple[End, ...]
    outputs: tuple[End, ...]


@dataclass(frozen=True)
class Lowered:
    """A finished model and what is to be told of it."""

    data: bytes
    notes: tuple[Note, ...]
    ends: Ends
    oldest: str
    """The oldest runtime that has all operators in these versions."""


def lower(qdq_model: ir.Model, target: Target, *, io_layout: IoLayout | None = None) -> bytes:
    """Write a QDQ (or float) graph as a TFLite file; see ``lower_with_notes``."""
    return lower_with_notes(qdq_model, target, io_layout=io_layout).data


def lower_with_notes(
    qdq_model: ir.Model, target: Target, *, io_layout: IoLayout | None = None
) -> Lowered:
    """Write a QDQ (or float) graph as a TFLite file.

    The nodes are walked once, in order; each is written by its function of the table. Clamps that
    quantizers do are dropped before. The graph is not changed. Equal graphs give equal bytes.

    Args:
        qdq_model: every shape known.
        target: what the artefact is for.
        io_layout: of the ends [``nhwc``].

    Raises:
        QCompileError: SCHEME_UNSUPPORTED naming a node that cannot be written, or for more
            constants than a file holds; SHAPE_NOT_STATIC.
    """
    model = qdq_model.clone()
    for one in (AbsorbClamps(), SplitClamps()):
        one(model)
    made = [value.name or "" for node in model.graph for value in node.outputs]
    ctx = Context(target, Builder(made))
    layout = io_layout or "nhwc"
    inputs = [_input(ctx, value, layout) for value in _fed(model.graph)]
    _walk(ctx, model.graph)
    taken = {index for _, index in inputs}
    outputs = [_output(ctx, value, layout, taken) for value in model.graph.outputs]
    ends = Ends(tuple(end for end, _ in inputs), tuple(end for end, _ in outputs))
    made_of = ((operator.op, operator.version) for operator in ctx.builder.operators)
    oldest = oldest_with(ctx.table, made_of, target.min_runtime)
    _describe(ctx, ends, oldest)
    if (pixels := qdq_model.metadata_props.get(PIXELS_KEY)) is not None:
        ctx.builder.metadata(PIXELS_KEY, pixels.encode())
    app = AppInfo.from_json(qdq_model.metadata_props.get(APP_KEY, ""))
    if app is not None:
        ctx.builder.metadata(METADATA_KEY, _for_apps(app, ends))
    data = ctx.builder.finish(
        [index for _, index in inputs],
        [index for _, index in outputs],
        names=([end.name for end in ends.inputs], [end.name for end in ends.outputs]),
        description=f"qcompile {target.name}",
    )
    if app is not None:
        data = with_files(data, app)
    notes = (*ctx.notes, *_newer(oldest, target))
    return Lowered(data, notes, ends, oldest)


def _newer(oldest: str, target: Target) -> list[Note]:
    """What to say where some layer needs a newer runtime than the rest of the target does."""
    if oldest == target.min_runtime:
        return []
    why = "fully connected layers whose activations are quantized as it runs, a scale a channel"
    return [Note("warning", f"the file needs {oldest} or newer: it has {why}")]


def _fed(graph: ir.Graph) -> list[ir.Value]:
    """The inputs that a caller gives."""
    return [value for value in graph.inputs if value.name not in graph.initializers]


def _input(ctx: Context, value: ir.Value, layout: IoLayout) -> tuple[End, int]:
    shape = qdq.static_shape(value)
    perm = identity(len(shape))
    wanted = wish(value)
    if layout == "nhwc" and wanted is not None:
        perm = wanted
    params, kind = None, value.dtype.numpy().name if value.dtype is not None else "float32"
    reader = next((u.node for u in value.uses() if u.node.op_type == "DequantizeLinear"), None)
    if reader is not None:
        params, kind = qdq.parameters(reader)
    name = value.name or ""
    made = ctx.tensor(name, shape, kind, params, perm)
    ctx.hold(value, made)
    return End(name, name, kind, params, shape, perm), made.index


def _output(ctx: Context, value: ir.Value, layout: IoLayout, taken: set[int]) -> tuple[End, int]:
    """``taken``: tensors that are ends already, and so have their name."""
    operand = ctx.settled(ctx.held_exactly(value))
    keep = identity(operand.rank)
    if layout == "nhwc" and operand.perm == channels_last(operand.rank):
        keep = operand.perm
    if operand.perm != keep:
        order = "is asked for" if layout == "nchw" else "is the only one known for it"
        operand = ctx.stored_as(operand, keep, f"output {value.name}: ONNX's order {order}")
    name = value.name or ""
    if operand.data is not None or operand.index in taken:
        again = ctx.temporary(operand, name, operand.shape, keep)
        ctx.reshape_into(operand, again)
        operand = again
    index = ctx.index(operand)
    taken.add(index)
    ctx.builder.rename(index, name)
    return End(name, name, operand.dtype, operand.quantization, operand.shape, keep), index


def _walk(ctx: Context, graph: ir.Graph) -> None:
    done: set[ir.Node] = set()
    for node in graph:
        if node in done:
            continue
        if node.op_type in _FORM or widens(node):
            _convert(ctx, node)
            continue
        domain = "" if node.domain in ("", "ai.onnx") else f"{node.domain}."
        write = LOWERINGS.get(f"{domain}{node.op_type}")
        if write is None:
            why = ctx.target.float_ops.get(node.op_type, "TFLite has no operator for it")
            raise ctx.refuse(node, why)
        unit = unit_of(node)
        ctx.enter(unit)
        write(ctx, node)
        done.update(unit.followers)


def _convert(ctx: Context, node: ir.Node) -> None:
    """QuantizeLinear where no operator did it; DequantizeLinear for a float output of the graph."""
    result = node.outputs[0]
    if node.op_type == "DequantizeLinear" and result.is_graph_output():
        ctx.hold(result, ctx.real(ctx.settled(ctx.held(result)), result.name))
    if node.op_type != "QuantizeLinear" or ctx.is_held(result):
        return
    source = node.inputs[0]
    assert source is not None
    x = ctx.settled(ctx.held(source))
    params, kind = qdq.parameters(node)
    if params.scale.size > 1:
        raise ctx.refuse(node, "TFLite quantizes activations with one scale for all")
    if x.is_quantized:
        ctx.hold(result, ctx.requantized(x, params, kind))
        return
    made = ctx.tensor(result.name or "", x.shape, kind, params, x.perm)
    ctx.emit("QUANTIZE", [x], [made], Options("QuantizeOptions", {}))
    ctx.hold(result, made)


def _for_apps(app: AppInfo, ends: Ends) -> bytes:
    ranks = {end.name: len(end.shape) for end in ends.inputs}
    return metadata(app, list(ranks), [end.name for end in ends.outputs], ranks)


def _describe(ctx: Context, ends: Ends, oldest: str) -> None:
    ctx.builder.metadata(_VERSION_KEY, oldest.encode().ljust(_VERSION_BYTES, b"\0"))
    ctx.builder.metadata(TARGET_KEY, ctx.target.name.encode())
    moved = {
        end.name: end.perm
        for end in (*ends.inputs, *ends.outputs)
        if end.perm != identity(len(end.shape))
    }
    if moved:
        ctx.builder.metadata(LAYOUT_KEY, json.dumps(moved, sort_keys=True).encode())
