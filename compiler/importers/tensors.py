"""Takes a model's tensors out of the message they came in, so that the message can be freed."""

import math
from collections.abc import Iterator

import onnx_ir as ir

from qcompile.compiler.importers.external_data import ExternalFiles
from qcompile.core.errors import Code, QCompileError


def detach_tensors(model: ir.Model, files: ExternalFiles) -> None:
    """Replace every tensor of a freshly deserialized model, in place.

    External tensors stay external and are checked; all others become arrays of their own. As long
    as one tensor still lies in the message, protobuf keeps the whole message in memory.

    Raises:
        QCompileError: EXTERNAL_DATA; MODEL_INVALID when a tensor's data do not fit its shape.
    """
    for graph in graphs_of(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _detached(value.const_value, files)
        for node in graph:
            _detach_attributes(node, files)


def graphs_of(model: ir.Model, *, functions: bool = True) -> Iterator[ir.Graph]:
    """The main graph, the bodies of functions, and every subgraph in them, outer ones first."""
    bodies = [function.graph for function in model.functions.values()] if functions else []
    pending = [model.graph, *bodies]
    while pending:
        graph = pending.pop(0)
        yield graph
        for node in graph:
            pending.extend(subgraphs_of(node))


def subgraphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs a node holds as attributes."""
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def _detach_attributes(node: ir.Node, files: ExternalFiles) -> None:
    for name, attribute in list(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            node.attributes[name] = ir.AttrTensor(name, _detached(attribute.as_tensor(), files))
        elif attribute.type == ir.AttributeType.TENSORS:
            tensors = [_detached(tensor, files) for tensor in attribute.as_tensors()]
            node.attributes[name] = ir.AttrTensors(name, tensors)


def _detached(tensor: ir.TensorProtocol, files: ExternalFiles) -> ir.TensorProtocol:
    if isinstance(tensor, ir.ExternalTensor):
        return files.settle(tensor)
    try:
        array = tensor.numpy()
    except (ValueError, TypeError, AssertionError) as error:
        raise _ill_fitting(tensor) from error
    if array.size != math.prod(tensor.shape.numpy()):
        raise _ill_fitting(tensor)
    if tensor.dtype == ir.DataType.STRING:
        return ir.StringTensor(array, shape=ir.Shape(array.shape), name=tensor.name)
    return ir.Tensor(array, dtype=tensor.dtype, name=tensor.name)


def _ill_fitting(tensor: ir.TensorProtocol) -> QCompileError:
    return QCompileError(
        Code.MODEL_INVALID,
        f"the data of tensor {tensor.name or '(unnamed)'} do not fit its shape "
        f"{list(tensor.shape)} and type {tensor.dtype.name}",
    )
