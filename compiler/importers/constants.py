"""Turns everything a graph holds fast into initializers: Constant nodes, default inputs."""

import numpy as np
import onnx_ir as ir

from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note

DEFAULTS_ARE_INPUTS = 4
"""IR version from which an initializer need not be listed as an input; one that is, is a default
that the caller may override. Before that, every weight had to be listed."""


def lift_constants(model: ir.Model) -> None:
    """Make an initializer of each Constant node, in the graph where it stands.

    A constant that is itself an output of its graph stays a node: runtimes expect one there.

    Raises:
        QCompileError: MODEL_INVALID when a Constant holds nothing.
    """
    for graph in graphs_of(model):
        for node in list(graph):
            if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
                lift_constant(graph, node)


def lift_constant(graph: ir.Graph, node: ir.Node) -> None:
    """Replace one Constant node, unless its value is an output."""
    output = node.outputs[0]
    if output.is_graph_output():
        return
    try:
        tensor = _tensor_of(node)
    except TypeError as error:  # of a function's parameter that has another type than its use
        raise QCompileError(Code.MODEL_INVALID, str(error), node=node.name) from error
    if tensor is None:  # sparse: the runtime reads it as it is
        return
    replace_by_initializer(graph, output, tensor)


def replace_by_initializer(graph: ir.Graph, output: ir.Value, tensor: ir.TensorProtocol) -> None:
    """Let an initializer of the same name stand for a node's only output; the node goes."""
    node = output.producer()
    assert node is not None and output.name is not None
    name, output.name = output.name, None
    value = ir.Value(
        name=name,
        const_value=tensor,
        shape=ir.Shape(tensor.shape.numpy()),
        type=ir.TensorType(tensor.dtype),
    )
    tensor.name = name
    output.replace_all_uses_with(value)
    graph.register_initializer(value)
    graph.remove(node, safe=True)


def drop_default_inputs(model: ir.Model) -> list[Note]:
    """Take initializers off the list of inputs: a compiled model's weights are fixed."""
    notes: list[Note] = []
    graph = model.graph
    defaults = [value for value in graph.inputs if value.name in graph.initializers]
    if not defaults:
        return notes
    for value in defaults:
        graph.inputs.remove(value)
    declared_on_purpose = model.ir_version >= DEFAULTS_ARE_INPUTS
    if declared_on_purpose and not _lists_all_weights(graph, len(defaults)):
        names = ", ".join(str(value.name) for value in defaults[:3])
        more = f" and {len(defaults) - 3} more" if len(defaults) > 3 else ""
        notes.append(Note("info", f"inputs with a default value are fixed to it: {names}{more}"))
    return notes


def _lists_all_weights(graph: ir.Graph, defaults: int) -> bool:
    """Old exporters go on listing every weight; then the list means nothing."""
    return defaults == len(graph.initializers)


def _tensor_of(node: ir.Node) -> ir.TensorProtocol | None:
    for name, attribute in node.attributes.items():
        if name == "value":
            return attribute.as_tensor()
        if name in ("value_float", "value_floats"):
            numbers = attribute.as_floats() if name.endswith("s") else attribute.as_float()
            return ir.tensor(np.asarray(numbers, np.float32))
        if name in ("value_int", "value_ints"):
            integers = attribute.as_ints() if name.endswith("s") else attribute.as_int()
            return ir.tensor(np.asarray(integers, np.int64))
        if name in ("value_string", "value_strings"):
            many = name.endswith("s")
            texts = list(attribute.as_strings()) if many else [attribute.as_string()]
            shape = ir.Shape((len(texts),) if many else ())
            return ir.StringTensor([text.encode() for text in texts], shape=shape)
        if name == "sparse_value":
            return None
    raise QCompileError(Code.MODEL_INVALID, "a Constant node holds no value", node=node.name)
