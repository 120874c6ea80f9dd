"""Transposes cancelled, merged, and moved through elementwise ops where that saves one."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import (
    attribute_ints,
    constant,
    inherit,
    only_consumer,
    rank,
    unique_name,
    unique_node_name,
)
from qcompile.passes.prepare.edit import (
    bypass,
    graph_of,
    is_op,
    operand,
    prune,
    replace,
    set_constant,
    walk,
)

NAME = "CancelTransposes"

Perm = tuple[int, ...]

UNARY = (
    "Abs", "Cast", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu",
    "Log", "Neg", "Reciprocal", "Relu", "Sigmoid", "Softplus", "Sqrt", "Tanh",
)  # fmt: skip
"""Ops that map each element of their first input by itself."""

BINARY = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")
"""Ops that map pairs of elements, with broadcasting."""


@dataclass(frozen=True)
class CancelTransposes(ir.passes.InPlacePass):
    """Remove Transposes. Keeps the float function.

    1. A Transpose that moves nothing is removed.
    2. A Transpose of a Transpose becomes one, with the permutations merged (an inverse pair thus
       none).
    3. An elementwise op whose data all come from Transposes of one permutation, each read by it
       alone, reads their inputs, and one Transpose follows; its constants are permuted. Only where
       that saves a Transpose: two or more went in, or a chain of elementwise ops leads on to
       another one, which rule 2 then merges.

    Left alone: everything else. Layout is not decided here.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if is_op(node, "Transpose"):
        return _merge(node)
    if not is_op(node, *UNARY, *BINARY):
        return False
    transposes = _feeding_transposes(node)
    if not transposes:
        return False
    if len(transposes) < 2 and not _leads_to_transpose(node.outputs[0]):
        return False
    _sink(node, transposes)
    return True


def permutation(node: ir.Node) -> Perm | None:
    """What a Transpose does: output axis i is input axis ``permutation[i]``."""
    perm = attribute_ints(node, "perm")
    if perm:
        return perm
    dims = rank(node.inputs[0])
    return None if dims is None else tuple(reversed(range(dims)))


def _merge(node: ir.Node) -> bool:
    perm = permutation(node)
    if perm is None:
        return False
    if perm == tuple(range(len(perm))):
        return bypass(node, operand(node, 0))
    inner = operand(node, 0).producer()
    first = permutation(inner) if inner is not None and is_op(inner, "Transpose") else None
    if inner is None or first is None:
        return False
    merged = tuple(first[axis] for axis in perm)
    attributes = {"perm": merged}
    replace(node, "Transpose", [inner.inputs[0]], NAME, attributes=attributes)
    return True


def _data_inputs(node: ir.Node) -> list[int]:
    """Which inputs carry elements that are mapped (a Clip's limits are scalars)."""
    return [0] if is_op(node, *UNARY) else list(range(len(node.inputs)))


def _feeding_transposes(node: ir.Node) -> list[ir.Node]:
    """The Transposes that feed the op, if it can be moved before them."""
    found: list[ir.Node] = []
    perms: set[Perm | None] = set()
    for index in _data_inputs(node):
        value = operand(node, index)
        producer = value.producer()
        if constant(value) is not None:
            continue
        if producer is None or not is_op(producer, "Transpose") or only_consumer(value) is not node:
            return []
        found.append(producer)
        perms.add(permutation(producer))
    if len(perms) != 1 or None in perms:
        return []
    dims = rank(found[0].inputs[0])
    constants = [constant(operand(node, index)) for index in _data_inputs(node)]
    if any(c is not None and (dims is None or c.ndim > dims) for c in constants):
        return []
    return found


def _leads_to_transpose(value: ir.Value) -> bool:
    """Whether a chain of elementwise ops, each the only reader, ends in a Transpose."""
    node = only_consumer(value)
    if node is None:
        return False
    if is_op(node, "Transpose"):
        return True
    if not is_op(node, *UNARY, *BINARY):
        return False
    others = (operand(node, i) for i in _data_inputs(node) if node.inputs[i] is not value)
    if any(constant(v) is None for v in others):
        return False
    return _leads_to_transpose(node.outputs[0])


def _sink(node: ir.Node, transposes: list[ir.Node]) -> None:
    graph = graph_of(node)
    perm = permutation(transposes[0])
    assert perm is not None
    inverse = tuple(int(axis) for axis in np.argsort(perm))
    freed = [t.outputs[0] for t in transposes]
    for index in _data_inputs(node):
        value = operand(node, index)
        array = constant(value)
        if array is None:
            node.replace_input_with(index, operand(_producer(value), 0))
        elif array.size > 1:
            full = array.reshape((1,) * (len(perm) - array.ndim) + array.shape)
            set_constant(node, index, np.transpose(full, inverse))
    output = node.outputs[0]
    result = ir.Value(name=output.name, shape=output.shape, type=output.type)
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    assert output.name is not None
    after = ir.node(
        "Transpose",
        [output],
        {"perm": perm},
        outputs=[result],
        name=unique_node_name(graph, f"{output.name}.transpose"),
    )
    inherit(after, NAME, *transposes)
    graph.insert_after(node, after)
    output.name = unique_name(graph, f"{output.name}.untransposed")
    if output.shape is not None:
        output.shape = ir.Shape([output.shape[axis] for axis in inverse])
    prune(freed)


def _producer(value: ir.Value) -> ir.Node:
    producer = value.producer()
    assert producer is not None
    return producer
