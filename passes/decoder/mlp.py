"""What follows an attention in its block: the sum with the stream, a norm, the MLP."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.passes.decoder.parts import from_op, linear_of, norm_of, number_and_other
from qcompile.passes.decoder.records import Linear, Mlp, Norm
from qcompile.passes.prepare.edit import is_op, operand


@dataclass(frozen=True, eq=False)
class Block:
    """The second part of a block; None is what was not found."""

    residual: ir.Value | None = None
    norm: Norm | None = None
    mlp: Mlp | None = None
    output: ir.Value | None = None


def block_of(o: Linear, attention_input: ir.Value | None) -> Block:
    """The block behind the layer ``o``.

    In turn (``x = x + attention; x = x + mlp(norm(x))``, or with norms behind each sum), or side by
    side (``x + attention + mlp``, the MLP fed as the attention is).

    Args:
        o: the layer behind an attention.
        attention_input: what its queries are made of.
    """
    for value in _behind(o.output):
        stream = norm_behind(value) or value
        for down in _downs(stream):
            mlp = _mlp_of(down.linear)
            if mlp is None:
                continue
            norm = norm_of(mlp.up.input)
            reads = mlp.up.input if norm is None else norm.input
            if reads in (stream, value) or mlp.up.input in (stream, attention_input):
                return Block(value, norm, mlp, down.sum)
    sums = _behind(o.output)
    return Block(sums[0] if sums else None)


@dataclass(frozen=True, eq=False)
class _Down:
    linear: Linear
    sum: ir.Value


def _behind(value: ir.Value) -> list[ir.Value]:
    """The sums that a layer's output is part of, one after the other."""
    found: list[ir.Value] = []
    while len(found) < 2:
        add = next((u.node for u in value.uses() if is_op(u.node, "Add")), None)
        if add is None:
            break
        value = add.outputs[0]
        found.append(value)
    return found


def norm_behind(value: ir.Value) -> ir.Value | None:
    """The output of the LayerNormalization that alone reads a sum (post-norm)."""
    uses = list(value.uses())
    if len(uses) == 1 and is_op(uses[0].node, "LayerNormalization"):
        return uses[0].node.outputs[0]
    return None


def _downs(stream: ir.Value) -> list[_Down]:
    """Layers whose output is added to a stream, or that make it together with others."""
    adds = [u.node for u in stream.uses() if is_op(u.node, "Add")]
    made = from_op(stream, "Add")
    nodes = [*adds, *([made] if made is not None else [])]
    for node in tuple(nodes):
        nodes += [n for v in node.inputs if (n := from_op(v, "Add")) is not None and n not in nodes]
    found = []
    for node in nodes:
        for value in node.inputs:
            linear = linear_of(value) if value is not None else None
            if linear is not None:
                found.append(_Down(linear, node.outputs[0]))
    return found


def _mlp_of(down: Linear) -> Mlp | None:
    """The MLP that ends in a layer: gated, or plain."""
    gated = from_op(down.input, "Mul")
    if gated is not None:
        for at, other in ((0, 1), (1, 0)):
            up = linear_of(operand(gated, at))
            found = _activated(operand(gated, other))
            if up is not None and found is not None and found[0].input is up.input:
                return Mlp(found[0], up, down, down.input, found[1])
    plain = _activated(down.input)
    if plain is None:
        return None
    return Mlp(None, plain[0], down, down.input, plain[1])


def _activated(value: ir.Value) -> tuple[Linear, str] | None:
    """The layer under an activation, and what that is called."""
    node = value.producer()
    if node is None:
        return None
    if is_op(node, "Relu", "Gelu", "Elu", "Tanh", "Sigmoid", "HardSwish", "Swish", "Softplus"):
        linear = linear_of(operand(node, 0))
        names = {"Relu": "relu", "Gelu": "gelu", "Swish": "silu"}
        return None if linear is None else (linear, names.get(node.op_type, node.op_type))
    if not is_op(node, "Mul"):
        return None
    for at, other in ((0, 1), (1, 0)):
        linear = linear_of(operand(node, at))
        if linear is not None:
            name = _gate_name(operand(node, other), linear.output)
            return None if name is None else (linear, name)
    return _gelu_halved(node)


def _gate_name(gate: ir.Value, x: ir.Value) -> str | None:
    """What ``x * gate(x)`` is called."""
    node = gate.producer()
    if is_op(node, "Sigmoid") and node is not None:
        if operand(node, 0) is x:
            return "silu"
        scaled = from_op(operand(node, 0), "Mul")
        found = number_and_other(scaled) if scaled is not None else None
        return "gelu" if found is not None and found[1] is x else None
    root = from_op(gate, "Mul", "Add")
    return "gelu" if root is not None and _reaches(root, x, {"Tanh", "Erf"}) else None


def _gelu_halved(node: ir.Node) -> tuple[Linear, str] | None:
    """``0.5 x (1 + tanh(...))`` with the factors in another order."""
    for at, other in ((0, 1), (1, 0)):
        inner = from_op(operand(node, at), "Mul")
        found = number_and_other(inner) if inner is not None else None
        if found is None:
            continue
        linear = linear_of(found[1])
        if linear is not None and _gate_name(operand(node, other), linear.output) == "gelu":
            return linear, "gelu"
    outer = number_and_other(node)
    made = outer[1].producer() if outer is not None else None
    if made is not None and is_op(made, "Mul"):
        return _activated(outer[1]) if outer is not None else None
    return None


def _reaches(node: ir.Node, x: ir.Value, through: set[str]) -> bool:
    """Whether what makes a value is a function of ``x`` that has one of these operators."""
    seen: set[ir.Node] = set()
    todo, found = [node], False
    while todo:
        node = todo.pop()
        if node in seen or len(seen) > 12:
            continue
        seen.add(node)
        found = found or is_op(node, *through)
        todo.extend(n for v in node.inputs if v is not x and v and (n := v.producer()) is not None)
    reads = {v for n in seen for v in n.inputs}
    return found and x in reads
