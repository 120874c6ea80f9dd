"""Finds the types and shapes of all values, and the nodes at which that fails.

``onnx``'s own inference does the work, on a message that holds no weights. What the runtime would
compute from shapes alone is folded between the rounds (``folding``), since a Reshape whose target
is known tells more than one whose target is computed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir

from qcompile.compiler.importers.ceil_mode import drop_outer_windows
from qcompile.compiler.importers.folding import fold_shapes
from qcompile.compiler.importers.gaps import fill_gaps
from qcompile.compiler.importers.known_ifs import inline_known_ifs
from qcompile.compiler.importers.tensors import graphs_of

SMALL = 1024
"""Bytes up to which an initializer is shown to the inference: axes, targets, sizes."""

MOST_ROUNDS = 8
"""Chains of Shape -> ... -> Reshape -> Shape are known after as many rounds as they have Reshapes
in a row that depend on each other; eight is more than any model seen."""

_FAILURE = re.compile(r"\(op_type:([^,)]+), node name: (.*?)\): \[\w+\] (.*)")
_FOLLOWS = "expected to have type but instead is null"
"""How onnx words an error that only repeats one further up."""


@dataclass
class Inference:
    """What could not be inferred."""

    failures: dict[str, str] = field(default_factory=dict)
    """Node name -> the reason in onnx's words."""
    distrusted: bool = False
    """The shapes declared in the file contradicted each other and were dropped."""
    inlined: list[str] = field(default_factory=list)
    """Ifs whose condition became known."""


def infer(model: ir.Model) -> Inference:
    """Infer types and shapes and fold what depends on shapes alone, in place.

    An If whose condition is known by then makes room for the branch that runs.

    Names must be unique. Values keep what they had where nothing better is found.
    """
    result = Inference()
    rounds = 0
    while rounds < MOST_ROUNDS:
        rounds += 1
        proto = _message(model)
        failures, inferred = _run(proto)
        if failures and not result.distrusted:
            failures, inferred, result.distrusted = _without_declared(proto, failures, inferred)
            if result.distrusted:
                _forget(model)
        result.failures = failures
        _take(model, inferred)
        if drop_outer_windows(model):  # what was inferred behind such a pool is wrong
            _forget(model)
            result.distrusted = False
            continue
        filled = fill_gaps(model)
        folded = fold_shapes(model)
        if inlined := inline_known_ifs(model):
            result.inlined += inlined
            rounds = 0  # there are only so many of them
        elif not folded and not filled:
            break
    return result


def _run(proto: onnx.ModelProto) -> tuple[dict[str, str], onnx.ModelProto]:
    """Failures, and the message with what could be inferred."""
    try:
        return {}, onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        failures = _failures(str(error))
    try:
        return failures, onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return failures, proto


def _failures(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.split("\n"):
        match = _FAILURE.search(line)
        if match and _FOLLOWS not in line:
            found[match[2]] = match[3].strip()
    return found


def _without_declared(
    proto: onnx.ModelProto, failures: dict[str, str], inferred: onnx.ModelProto
) -> tuple[dict[str, str], onnx.ModelProto, bool]:
    """Try again without the shapes the file declares; keep that if fewer nodes fail."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    own = {o for node in bare.graph.node if _has_schema(node) for o in node.output}
    declared = [info for info in bare.graph.value_info if info.name not in own]
    del bare.graph.value_info[:]
    bare.graph.value_info.extend(declared)
    for info in bare.graph.output:
        if info.name in own:
            info.type.tensor_type.ClearField("shape")
    fewer, better = _run(bare)
    if len(fewer) < len(failures):
        return fewer, better, True
    return failures, inferred, False


def _has_schema(node: onnx.NodeProto) -> bool:
    return bool(onnx.defs.has(node.op_type, node.domain))


def _forget(model: ir.Model) -> None:
    """Drop the declared shapes of everything that inference can find by itself."""
    for node in model.graph:
        if onnx.defs.has(node.op_type, node.domain):
            for output in node.outputs:
                output.shape = None


def _take(model: ir.Model, inferred: onnx.ModelProto) -> None:
    """Copy what was found into the graph, by name."""
    found = {info.name: info.type for info in _infos(inferred.graph)}
    for graph in graphs_of(model):
        for node in graph:
            for value in node.outputs:
                proto = found.get(value.name or "")
                if proto is None:
                    continue
                if proto.HasField("tensor_type"):
                    _assign(value, proto.tensor_type)
                elif value.type is None:  # a sequence or an optional value
                    value.type = ir.serde.deserialize_type_proto_for_type(proto)


def _infos(graph: onnx.GraphProto) -> Iterator[onnx.ValueInfoProto]:
    yield from graph.value_info
    yield from graph.output
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _infos(attribute.g)


def _assign(value: ir.Value, proto: onnx.TypeProto.Tensor) -> None:
    if proto.elem_type:
        value.type = ir.TensorType(ir.DataType(proto.elem_type))
    if proto.HasField("shape"):
        value.shape = ir.Shape([_dimension(d) for d in proto.shape.dim])


def _dimension(proto: onnx.TensorShapeProto.Dimension) -> int | str | None:
    if proto.HasField("dim_value"):
        return int(proto.dim_value)
    return str(proto.dim_param) if proto.dim_param else None


def _message(model: ir.Model) -> onnx.ModelProto:
    with _hidden_weights(model):
        return ir.to_proto(model)


@contextmanager
def _hidden_weights(model: ir.Model) -> Iterator[None]:
    """Let large initializers look external while the graph is written: type and shape, no data."""
    hidden: list[tuple[ir.Value, ir.TensorProtocol]] = []
    for graph in graphs_of(model):
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None and tensor.nbytes > SMALL:
                hidden.append((value, tensor))
                value.const_value = _placeholder(tensor, value.name or "")
    try:
        yield
    finally:
        for value, tensor in hidden:
            value.const_value = tensor


def _placeholder(tensor: ir.TensorProtocol, name: str) -> ir.ExternalTensor:
    shape = ir.Shape(tensor.shape.numpy())
    return ir.ExternalTensor("weights", 0, tensor.nbytes, tensor.dtype, shape=shape, name=name)
