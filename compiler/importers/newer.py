"""Replaces operators that came after the working opset by the functions their schemas give.

``Attention`` of opset 23 hides its MatMuls in one node; as a function they are there to be
quantized. The bodies are inlined like the user's own functions, so each new node knows the node it
stands for, and no weight is touched.
"""

from typing import Any

import onnx
import onnx_ir as ir

from qcompile.compiler.importers.functions import inline_functions
from qcompile.compiler.importers.tensors import graphs_of

DOMAIN = "qcompile.newer"
"""Of the functions made here, which are gone when ``expand_newer`` returns."""

DEEPEST = 4
"""Bodies within bodies; LinearAttention's is the deepest, with two."""


def expand_newer(model: ir.Model, working_opset: int) -> None:
    """Expand in place; an operator whose schema gives no function stays as it is.

    Types must have been inferred: most bodies depend on them.
    """
    default = model.opset_imports.get("", working_opset)
    for _ in range(DEEPEST):
        for graph in list(graphs_of(model)):
            for node in graph:
                if node.domain == "" and _came_after(node, working_opset):
                    _call_function(model, node, node.version or default)
        if not model.functions:
            return
        inline_functions(model)
        model.opset_imports.pop(DOMAIN, None)


def _came_after(node: ir.Node, opset: int) -> bool:
    try:
        onnx.defs.get_schema(node.op_type, opset, "")
    except onnx.defs.SchemaError:
        return onnx.defs.has(node.op_type)
    return False


def _call_function(model: ir.Model, node: ir.Node, version: int) -> None:
    """Turn a node into the call of a function of its own."""
    schema = onnx.defs.get_schema(node.op_type, version, "")
    proto = _function(schema, node, version)
    if proto is None:
        return
    proto.domain, proto.name = DOMAIN, node.op_type
    proto.overload = str(len(model.functions))
    for name in proto.attribute:
        default = schema.attributes[name].default_value
        if name not in node.attributes and default.name:
            node.attributes[name] = ir.serde.deserialize_attribute(default)
    function = ir.serde.deserialize_function(proto)
    model.functions[function.identifier()] = function
    model.opset_imports[DOMAIN] = 1
    node.domain, node.overload = DOMAIN, proto.overload


def _function(
    schema: Any,  # OpSchema; onnx's stubs lack the calls for functions of one opset
    node: ir.Node,
    version: int,
) -> onnx.FunctionProto | None:
    """The body, made for the node's types where it depends on them."""
    fixed = [v for v in schema.function_opset_versions if v <= version]
    fitted = [v for v in schema.context_dependent_function_opset_versions if v <= version]
    if fixed:
        text = schema.get_function_with_opset_version(fixed[-1])
    elif fitted:
        types = [_type_of(value) for value in node.inputs]
        call = ir.to_proto(node).SerializeToString()
        text = schema.get_context_dependent_function_with_opset_version(fitted[-1], call, types)
    else:
        return None
    proto = onnx.FunctionProto()
    proto.ParseFromString(text)
    # A body made for a node leaves out what the node does not ask for, yet lists every output.
    del proto.output[len(node.outputs) :]
    made = {name for inner in proto.node for name in inner.output}
    return proto if made.issuperset(proto.output) else None


def _type_of(value: ir.Value | None) -> bytes:
    proto = onnx.TypeProto()
    if value is not None and value.dtype is not None:
        proto.tensor_type.elem_type = int(value.dtype)
        if value.shape is not None:
            proto.tensor_type.CopyFrom(ir.to_proto(value).type.tensor_type)
    return bytes(proto.SerializeToString())
