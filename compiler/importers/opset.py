"""Brings a model to the working opset: node by node, by the schemas' own account of what changed.

Up: a node crosses each opset between its own and the working one; where ``adapters.ADAPTERS``
knows a change it is made, everywhere else only types were widened. Down (opset 22 and later): an
operator that did not exist yet is replaced by the function that its schema gives (``newer``); one
that did exist must use nothing that came later.
"""

import onnx
import onnx_ir as ir

from qcompile.compiler.importers.adapters import ADAPTERS, Adapter
from qcompile.compiler.importers.newer import expand_newer
from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note

WORKING_OPSET = 21
WORKING_IR_VERSION = 10
"""The IR version that came with the working opset."""

NEWER_TYPES = frozenset(
    {
        ir.DataType.FLOAT4E2M1,
        ir.DataType.FLOAT8E8M0,
        ir.DataType.INT2,
        ir.DataType.UINT2,
    }
)
"""Element types that came after the working opset."""


def convert_opset(model: ir.Model) -> list[Note]:
    """Convert a model without functions, and everything in its subgraphs, in place.

    Types and ranks must have been inferred, since some changes depend on them.

    Raises:
        QCompileError: OPSET_UNSUPPORTED naming the operator and the node.
    """
    version = model.opset_imports.get("", WORKING_OPSET)
    if version > WORKING_OPSET:
        expand_newer(model, WORKING_OPSET)
    for graph in list(graphs_of(model)):
        for node in list(graph):
            if node.domain == "":
                _convert_node(node, node.version or version)
    used = {node.domain for graph in graphs_of(model) for node in graph}
    for domain in [d for d in model.opset_imports if d and d not in used]:
        del model.opset_imports[domain]
    model.opset_imports[""] = WORKING_OPSET
    model.ir_version = WORKING_IR_VERSION
    if version == WORKING_OPSET:
        return []
    return [Note("info", f"converted from opset {version} to {WORKING_OPSET}")]


def _convert_node(node: ir.Node, version: int) -> None:
    if version > WORKING_OPSET:
        _convert_down(node, version)
    for crossed in range(version + 1, WORKING_OPSET + 1):
        adapt = ADAPTERS.get((node.op_type, crossed))
        if adapt is not None:
            _adapt(adapt, node)
    node.version = WORKING_OPSET


def _adapt(adapt: Adapter, node: ir.Node) -> None:
    try:
        adapt(node)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise QCompileError(
            Code.MODEL_INVALID,
            f"{node.op_type} lacks an attribute or input that its opset demands, or has it wrong",
            node=node.name,
        ) from error


def _convert_down(node: ir.Node, version: int) -> None:
    """Check that a node of a later opset says nothing that the working one does not know."""
    try:
        old = onnx.defs.get_schema(node.op_type, WORKING_OPSET, "")
    except onnx.defs.SchemaError as error:
        raise _too_new(node, version, f"opset {WORKING_OPSET} has no such operator") from error
    for value in (*node.inputs, *node.outputs):
        if value is not None and value.dtype in NEWER_TYPES:
            raise _too_new(node, version, f"type {value.dtype.name} came later")
    new = onnx.defs.get_schema(node.op_type, version, "")
    if old.since_version == new.since_version:
        return
    for name in [name for name in node.attributes if name not in old.attributes]:
        if name not in new.attributes or not _is_default(
            node.attributes[name], new.attributes[name]
        ):
            raise _too_new(node, version, f"its attribute {name} came after opset {WORKING_OPSET}")
        del node.attributes[name]
    if len(node.inputs) > old.max_input or len(node.outputs) > old.max_output:
        raise _too_new(node, version, f"opset {WORKING_OPSET} knows fewer inputs or outputs of it")


def _is_default(attribute: ir.Attr, schema: onnx.defs.OpSchema.Attribute) -> bool:
    if not schema.default_value.name:
        return False
    default = ir.serde.deserialize_attribute(schema.default_value)
    return bool(default.value == attribute.value)


def _too_new(node: ir.Node, version: int, why: str) -> QCompileError:
    return QCompileError(
        Code.OPSET_UNSUPPORTED,
        f"{node.op_type} of opset {version} cannot be brought to opset {WORKING_OPSET}: {why}",
        node=node.name,
        hint=f"export the model with opset {WORKING_OPSET}",
    )
