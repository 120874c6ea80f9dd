"""Refuses nodes whose attributes or inputs are not what their operator's schema says.

Everything behind the importer may then ask a node for an attribute without looking at its type.
"""

import onnx

from qcompile.core.errors import Code, QCompileError

Attributes = onnx.AttributeProto
Schema = onnx.defs.OpSchema


def check_call(node: onnx.NodeProto, schema: Schema | None, label: str) -> None:
    """Check types of attributes, and that what is required is there.

    Args:
        node: as read.
        schema: of the operator in the model's opset; None when it has none (then only the types
            themselves are looked at).
        label: how to call the node in a message.

    Raises:
        QCompileError: MODEL_INVALID naming the attribute, or the number of inputs or outputs.
    """
    given: set[str] = set()
    for attribute in node.attribute:
        given.add(attribute.name)
        _check_type(attribute, schema, label)
    if schema is None:
        return
    for name, expected in schema.attributes.items():
        if expected.required and name not in given:
            raise _invalid(f"{node.op_type} needs the attribute {name}", label)
    for what, count, least, most in (
        ("inputs", len(node.input), schema.min_input, schema.max_input),
        ("outputs", len(node.output), schema.min_output, schema.max_output),
    ):
        if not least <= count <= most:
            raise _invalid(f"{node.op_type} has {count} {what}, which is not possible", label)


def _check_type(attribute: onnx.AttributeProto, schema: Schema | None, label: str) -> None:
    if attribute.type == Attributes.UNDEFINED:
        raise _invalid(f"attribute {attribute.name} has no type", label)
    expected = schema.attributes.get(attribute.name) if schema is not None else None
    kind = Attributes.AttributeType.Name(attribute.type)
    wanted = str(expected.type).rpartition(".")[2] if expected is not None else kind
    if wanted != kind:
        raise _invalid(f"attribute {attribute.name} is of type {kind}, not {wanted}", label)
    for tensor in (attribute.t, *attribute.tensors) if attribute.type in _TENSORS else ():
        check_tensor_type(tensor.data_type, f"a tensor in attribute {attribute.name}", label)


_TENSORS = (Attributes.TENSOR, Attributes.TENSORS)


def check_tensor_type(data_type: int, what: str, label: str | None = None) -> None:
    """Refuse an element type that ONNX does not have, or none at all."""
    if data_type == 0 or data_type not in onnx.TensorProto.DataType.values():
        raise _invalid(f"{what} has no element type that ONNX knows ({data_type})", label)


def _invalid(message: str, node: str | None) -> QCompileError:
    return QCompileError(Code.MODEL_INVALID, message, node=node)
