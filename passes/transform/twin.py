"""A second copy of a norm for the layers that read it, where others read it too."""

from collections.abc import Iterable

import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.passes.prepare.edit import insert, is_constant, is_op, set_constant
from qcompile.passes.prepare.linear import layer_of
from qcompile.passes.transform.channels import Group, find_groups

SUFFIX = ".smoothed"
"""What the name of a twin's output ends in."""


def split_off(graph: ir.Graph, names: Iterable[str], pass_name: str) -> dict[str, str]:
    """Give the layers that read these norms' outputs a twin of the norm each, in place.

    A name whose norm nobody but layers reads, or whose twin is there already, is passed over.

    Returns:
        Output of the norm -> output of its twin.
    """
    wanted = set(names)
    made = {}
    for group in find_groups(graph):
        if group.key in wanted and _is_read_elsewhere(group):
            made[group.key] = _twin(group, pass_name)
    return made


def with_twins(model: ir.Model) -> tuple[ir.Model, dict[str, str]]:
    """The model with every twin that could be of use; itself where there is none.

    Returns:
        The model or a clone, and output of each norm -> output of its twin.
    """
    names = [group.key for group in find_groups(model.graph) if _is_read_elsewhere(group)]
    if not names:
        return model, {}
    clone = model.clone()
    return clone, split_off(clone.graph, names, "twin")


def _is_read_elsewhere(group: Group) -> bool:
    """Whether a norm is read by layers that could be smoothed, and by others."""
    if not group.faults or len(group.norms) != 1 or not _layers(group):
        return False
    constants = [v for v in group.norms[0].inputs[1:] if v is not None]
    return is_op(group.norms[0], "Mul") or all(map(is_constant, constants))


def _layers(group: Group) -> list[ir.Node]:
    """The MatMuls and Gemms that read the norm's own output."""
    output = group.norms[0].outputs[0]
    nodes = [use.node for use in output.uses() if use.idx == 0 and use.node.graph is output.graph]
    return [node for node in nodes if is_op(node, "MatMul", "Gemm") and layer_of(node) is not None]


def _twin(group: Group, pass_name: str) -> str:
    """Add the twin beside the norm; its constants are its own."""
    norm = group.norms[0]
    output, readers = norm.outputs[0], _layers(group)
    made = insert(
        norm,
        norm.op_type,
        list(norm.inputs),
        f"{output.name}{SUFFIX}",
        pass_name,
        like=output,
        source=norm,
    )
    twin = made.producer()
    assert twin is not None
    for attr in norm.attributes.values():
        twin.attributes.add(attr)
    for slot, value in enumerate(norm.inputs):
        array = g.constant(value)
        if array is not None:
            set_constant(twin, slot, array)
    for reader in readers:
        reader.replace_input_with(0, made)
    return made.name or ""
