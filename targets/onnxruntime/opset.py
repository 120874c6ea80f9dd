"""The oldest opset and IR version under which a finished model means the same."""

from collections.abc import Mapping, Sequence
from typing import Final

import onnx
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import Target

Formal = onnx.defs.OpSchema.FormalParameter

LOWEST = 13
"""Per-channel QuantizeLinear and DequantizeLinear begin here; nothing older is written."""

_SILENT: Final[dict[tuple[str, int], Mapping[str, str]]] = {
    ("DFT", 20): {},  # the axis that is meant when none is named
    ("GridSample", 20): {},  # the names of the modes, and the default one
    ("GroupNormalization", 21): {},  # scale and bias have one element a channel, not a group
    ("Pad", 19): {"mode": "wrap"},
    ("Resize", 19): {"coordinate_transformation_mode": "half_pixel_symmetric"},
    ("RoiAlign", 16): {},  # the default mode moved by half a pixel
}
"""(op, opset) where an op's meaning changed and its schema does not show it for every node: such a
node goes no further back. With attributes given, only a node that has those values is meant."""


def stamp(model: ir.Model, target: Target) -> int:
    """Set a model's opset to the lowest one that it needs, and the IR version that goes with it.

    A node may go back to an older version of its op when that version takes the node's attributes,
    number of inputs and element types. Between opsets 13 and 21 an op that changed what it
    computes changed one of those too, but for the few in ``_SILENT``.

    Raises:
        QCompileError: OPSET_UNSUPPORTED naming the op, when the target's oldest runtime cannot
            load what the model needs.

    """
    current = model.opset_imports.get("", LOWEST)
    needed, culprit = LOWEST, None
    for graph in model.graphs():
        for node in graph:
            if node.domain in {"", "ai.onnx"}:
                version = _lowest_version(node, current)
                if version > needed:
                    needed, culprit = version, node
    if needed > target.max_opset:
        raise QCompileError(
            Code.OPSET_UNSUPPORTED,
            f"{culprit.op_type if culprit else 'the model'} needs opset {needed}, but "
            f"{target.runtime} {target.min_runtime} loads at most {target.max_opset}",
            node=culprit.name if culprit else None,
        )
    model.opset_imports[""] = needed
    for key in [k for k in model.opset_imports if k and not _used(model, k)]:
        del model.opset_imports[key]
    imports = [onnx.helper.make_opsetid("", needed)]
    model.ir_version = min(onnx.helper.find_min_ir_version_for(imports), target.max_ir_version)
    return needed


def _lowest_version(node: ir.Node, current: int) -> int:
    """The lowest opset, at least ``LOWEST``, whose version of the op accepts the node as it is."""
    version = current
    while version > LOWEST:
        since = onnx.defs.get_schema(node.op_type, version, "").since_version
        if since <= LOWEST:
            return LOWEST
        if not _may_precede(node, int(since)):
            return int(since)
        version = since - 1
    return LOWEST


def _may_precede(node: ir.Node, since: int) -> bool:
    """Whether a node means the same under the version of its op before that of opset ``since``."""
    return (
        not _is_silent_change(node, since)
        and onnx.defs.has(node.op_type, since - 1, "")
        and _accepts(onnx.defs.get_schema(node.op_type, since - 1, ""), node)
    )


def _is_silent_change(node: ir.Node, since: int) -> bool:
    values = _SILENT.get((node.op_type, since))
    return values is not None and all(g.attribute_str(node, k, "") == v for k, v in values.items())


def _accepts(schema: onnx.defs.OpSchema, node: ir.Node) -> bool:
    if not set(node.attributes) <= set(schema.attributes):
        return False
    if not schema.min_input <= len(node.inputs) <= schema.max_input:
        return False
    if len(node.outputs) > schema.max_output:
        return False
    allowed = {c.type_param_str: set(c.allowed_type_strs) for c in schema.type_constraints}
    ends = (
        *zip(node.inputs, _formal(schema.inputs, len(node.inputs)), strict=True),
        *zip(node.outputs, _formal(schema.outputs, len(node.outputs)), strict=True),
    )
    for value, formal in ends:
        types = allowed.get(formal.type_str, {formal.type_str})
        if value is not None and value.dtype is not None and _type_name(value) not in types:
            return False
    return True


def _formal(formals: Sequence[Formal], n: int) -> list[Formal]:
    """One formal parameter an actual one; the last stands for a variadic rest."""
    return [formals[min(i, len(formals) - 1)] for i in range(n)]


def _type_name(value: ir.Value) -> str:
    assert value.dtype is not None
    return f"tensor({value.dtype.name.lower()})"


def _used(model: ir.Model, domain: str) -> bool:
    return any(node.domain == domain for graph in model.graphs() for node in graph)
