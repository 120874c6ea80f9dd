"""LSTM and GRU written out step by step, for runtimes whose own keep a state between two runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.passes.prepare.edit import Attribute, graph_of, is_op, prune, walk

NAME = "UnrollRecurrent"

_GATES: Final[Mapping[str, int]] = {"LSTM": 4, "GRU": 3}
_ACTIVATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
}
_SEQUENCE_LENGTHS, _INITIAL_H, _INITIAL_C, _PEEPHOLES = 4, 5, 6, 7
"""Optional inputs; W, R and B come before them."""


@dataclass(frozen=True)
class UnrollRecurrent(ir.passes.InPlacePass):
    """Write LSTM and GRU as MatMul, Sigmoid, Tanh, Mul and Add. Keeps the float function.

    With x_t the input of a step, one MatMul computes ``W x_t + b`` for all steps at once.

    1. LSTM: ``i, o, f = sigmoid(W x_t + R h + b)``, ``n = tanh(...)`` of the fourth part,
       ``c' = f * c + i * n``, ``h' = o * tanh(c')``.
    2. GRU: ``z, r = sigmoid(W x_t + R h + b)``, ``n = tanh(W x_t + R (r * h) + b)``, with
       linear_before_reset ``n = tanh(W x_t + b_w + r * (R h + b_r))``, ``h' = n + z * (h - n)``.
    3. A state that is not given is zero, and what it would be multiplied with is not written.
    4. Reversed and bidirectional nodes: the steps in reverse, the directions side by side.

    Source: the ONNX operator specifications of LSTM-14 and GRU-14.

    Left alone: more than ``steps`` steps or an unknown number, weights that are computed,
    peepholes, lengths a sample, clip, coupled gates, batch-first layout, other activations.
    """

    steps: int
    """The longest sequence that is written out."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, self._visit)

    def _visit(self, node: ir.Node) -> bool:
        if not is_op(node, *_GATES) or not self._can_unroll(node):
            return False
        writer = _Writer(node)
        directions = [_Direction(writer, node, d) for d in range(_directions(node))]
        for direction in directions:
            direction.run()
        _finish(writer, node, directions)
        return True

    def _can_unroll(self, node: ir.Node) -> bool:
        shape = g.static_shape(node.inputs[0])
        constants = [_given(node, i) for i in (1, 2, 3)]
        usual = _ACTIVATIONS[node.op_type] * _directions(node)
        named = node.attributes.get("activations")
        return (
            shape is not None
            and 0 < shape[0] <= self.steps
            and all(v is None or g.constant(v) is not None for v in constants)
            and None not in constants[:2]
            and _given(node, _SEQUENCE_LENGTHS) is None
            and _given(node, _PEEPHOLES) is None
            and not {"clip", "activation_alpha", "activation_beta"} & set(node.attributes)
            and not g.attribute_int(node, "layout", 0)
            and not g.attribute_int(node, "input_forget", 0)
            and (named is None or tuple(named.as_strings()) == usual)
        )


def _given(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None


def _directions(node: ir.Node) -> int:
    return 2 if g.attribute_str(node, "direction", "forward") == "bidirectional" else 1


class _Writer:
    """Adds nodes before the one that is written out."""

    def __init__(self, node: ir.Node) -> None:
        self.node = node
        self.graph = graph_of(node)
        self.stem = node.name or node.op_type

    def constant(self, label: str, array: np.ndarray) -> ir.Value:
        """A new initializer."""
        return g.make_initializer(self.graph, f"{self.stem}_{label}", np.asarray(array))

    def op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        label: str,
        shape: Sequence[int],
        **attributes: Attribute,
    ) -> ir.Value:
        """A node of one output."""
        return self.parts(op_type, inputs, label, [shape], **attributes)[0]

    def parts(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        label: str,
        shapes: Sequence[Sequence[int]],
        **attributes: Attribute,
    ) -> list[ir.Value]:
        """A node of several outputs; the outputs."""
        made = []
        for number, shape in enumerate(shapes):
            name = f"{self.stem}_{label}" + (f"_{number}" if len(shapes) > 1 else "")
            value = ir.Value(name=g.unique_name(self.graph, name), shape=ir.Shape(shape))
            value.type = ir.TensorType(ir.DataType.FLOAT)
            made.append(value)
        title = g.unique_node_name(self.graph, f"{self.stem}_{label}")
        new = ir.node(op_type, inputs, attributes, outputs=made, name=title)
        g.inherit(new, NAME, self.node)
        self.graph.insert_before(self.node, new)
        return made


class _Direction:
    """One direction of a node: weights (K, gates * H), state, and the outputs of its steps."""

    def __init__(self, writer: _Writer, node: ir.Node, index: int) -> None:
        self.writer, self.node, self.index = writer, node, index
        shape, recurrent = g.static_shape(node.inputs[0]), g.constant(node.inputs[2])
        assert shape is not None and recurrent is not None
        self.steps, self.batch = shape[0], shape[1]
        self.hidden = recurrent.shape[2]
        self.gates = _GATES[node.op_type]
        backwards = g.attribute_str(node, "direction", "forward") == "reverse" or index == 1
        self.order = range(self.steps)[::-1] if backwards else range(self.steps)
        self.outputs: dict[int, ir.Value] = {}
        self.h = self._initial(_INITIAL_H, "h")
        self.c = self._initial(_INITIAL_C, "c") if node.op_type == "LSTM" else None

    def run(self) -> None:
        """Write all steps."""
        self._prepare()
        step = self._lstm if self.node.op_type == "LSTM" else self._gru
        parts = self._inputs()
        for t in self.order:
            self.outputs[t] = self.h = step(parts[t], t)

    # --- what all steps share ------------------------------------------------------------------

    def _prepare(self) -> None:
        w, r = (g.constant(self.node.inputs[i]) for i in (1, 2))
        assert w is not None and r is not None
        self.w = self.writer.constant(self._label("W"), np.ascontiguousarray(w[self.index].T))
        self.r = np.ascontiguousarray(r[self.index].T)
        size = self.gates * self.hidden
        given = _given(self.node, 3)
        both = None if given is None else g.constant(given)
        bias = np.zeros(2 * size, np.float32) if both is None else both[self.index]
        self.bias_w, self.bias_r = bias[:size], bias[size:]
        self.after_reset = self.node.op_type == "GRU" and bool(
            g.attribute_int(self.node, "linear_before_reset", 0)
        )
        cut = 2 * self.hidden
        if self.node.op_type == "LSTM":
            self.whole = self.writer.constant(self._label("R"), self.r)
        else:
            self.gate_r = self.writer.constant(self._label("R_zr"), self.r[:, :cut])
            self.new_r = self.writer.constant(self._label("R_h"), self.r[:, cut:])
            self.new_bias = self.writer.constant(self._label("R_bias"), self.bias_r[cut:])

    def _inputs(self) -> list[ir.Value]:
        """``W x_t + b`` of each step, (1, batch, gates * hidden)."""
        x = self.node.inputs[0]
        assert x is not None
        size = self.gates * self.hidden
        bias = self.bias_w + self.bias_r
        if self.after_reset:
            bias[2 * self.hidden :] = self.bias_w[2 * self.hidden :]
        b = self.writer.constant(self._label("bias"), bias.astype(np.float32))
        shape = (self.steps, self.batch, size)
        product = self._op("MatMul", [x, self.w], "product", shape)
        summed = self._op("Add", [product, b], "input", shape)
        if self.steps == 1:
            return [summed]
        shapes = [(1, self.batch, size)] * self.steps
        label = self._label("step_input")
        return self.writer.parts("Split", [summed], label, shapes, axis=0, num_outputs=self.steps)

    def _initial(self, index: int, label: str) -> ir.Value | None:
        """The state before the first step, (1, batch, hidden); None for zeros."""
        given = _given(self.node, index)
        array = None if given is None else g.constant(given)
        if given is None or (array is not None and not array.any()):
            return None
        if array is not None:
            kept = np.ascontiguousarray(array[self.index : self.index + 1])
            return self.writer.constant(self._label(f"initial_{label}"), kept)
        if _directions(self.node) == 1:
            return given
        ends = [
            self.writer.constant(self._label(f"{label}_{what}"), np.array([n], np.int64))
            for what, n in (("start", self.index), ("end", self.index + 1), ("axis", 0))
        ]
        return self._op("Slice", [given, *ends], f"initial_{label}", self._state)

    # --- one step ------------------------------------------------------------------------------

    def _lstm(self, x: ir.Value, t: int) -> ir.Value:
        total = x
        if self.h is not None:
            product = self._op("MatMul", [self.h, self.whole], f"{t}_recurrent", self._wide(4))
            total = self._op("Add", [x, product], f"{t}_gates", self._wide(4))
        if self.c is None:  # nothing to forget
            gates, new = self._cut(total, f"{t}_parts", 0, 2), self._cut(total, f"{t}_parts", 3, 1)
        else:
            gates, new = self._split(total, f"{t}_parts", (3, 1))
        count = 2 if self.c is None else 3
        opened = self._op("Sigmoid", [gates], f"{t}_open", self._wide(count))
        i, o, *f = self._split(opened, f"{t}_gate", (1,) * count)
        n = self._op("Tanh", [new], f"{t}_new", self._state)
        c = self._op("Mul", [i, n], f"{t}_written", self._state)
        if self.c is not None:
            kept = self._op("Mul", [*f, self.c], f"{t}_kept", self._state)
            c = self._op("Add", [kept, c], f"{t}_cell", self._state)
        self.c = c
        squashed = self._op("Tanh", [c], f"{t}_squashed", self._state)
        return self._op("Mul", [o, squashed], f"{t}_h", self._state)

    def _gru(self, x: ir.Value, t: int) -> ir.Value:
        if self.h is None and not self.after_reset:  # nothing to reset
            return self._first_gru(x, t)
        gates, new = self._split(x, f"{t}_parts", (2, 1))
        if self.h is not None:
            product = self._op("MatMul", [self.h, self.gate_r], f"{t}_recurrent", self._wide(2))
            gates = self._op("Add", [gates, product], f"{t}_gates", self._wide(2))
        opened = self._op("Sigmoid", [gates], f"{t}_open", self._wide(2))
        z, r = self._split(opened, f"{t}_gate", (1, 1))
        remembered = self._remembered(r, t)
        if remembered is not None:
            new = self._op("Add", [new, remembered], f"{t}_sum", self._state)
        n = self._op("Tanh", [new], f"{t}_new", self._state)
        if self.h is None:
            return self._mixed(z, n, t)
        change = self._op("Sub", [self.h, n], f"{t}_change", self._state)
        share = self._op("Mul", [z, change], f"{t}_share", self._state)
        return self._op("Add", [n, share], f"{t}_h", self._state)

    def _first_gru(self, x: ir.Value, t: int) -> ir.Value:
        z = self._op("Sigmoid", [self._cut(x, f"{t}_parts", 0, 1)], f"{t}_open", self._state)
        n = self._op("Tanh", [self._cut(x, f"{t}_parts", 2, 1)], f"{t}_new", self._state)
        return self._mixed(z, n, t)

    def _mixed(self, z: ir.Value, n: ir.Value, t: int) -> ir.Value:
        """``n - z * n``: a step from a state of zeros."""
        share = self._op("Mul", [z, n], f"{t}_share", self._state)
        return self._op("Sub", [n, share], f"{t}_h", self._state)

    def _remembered(self, r: ir.Value, t: int) -> ir.Value | None:
        """What the state adds to a GRU's new value; None for nothing."""
        if self.after_reset:
            inner = self.new_bias
            if self.h is not None:
                product = self._op("MatMul", [self.h, self.new_r], f"{t}_product", self._state)
                inner = self._op("Add", [product, self.new_bias], f"{t}_inner", self._state)
            return self._op("Mul", [r, inner], f"{t}_remembered", self._state)
        if self.h is None:
            return None
        reset = self._op("Mul", [r, self.h], f"{t}_reset", self._state)
        return self._op("MatMul", [reset, self.new_r], f"{t}_remembered", self._state)

    def _split(self, value: ir.Value, label: str, parts: Sequence[int]) -> list[ir.Value]:
        sizes = np.asarray([n * self.hidden for n in parts], np.int64)
        split = self.writer.constant(self._label(f"{label}_sizes"), sizes)
        shapes = [self._wide(n) for n in parts]
        return self.writer.parts("Split", [value, split], self._label(label), shapes, axis=2)

    def _cut(self, value: ir.Value, label: str, first: int, count: int) -> ir.Value:
        """Some of the gates. A Split whose outputs are not all read has no integer kernel."""
        ends = first * self.hidden, (first + count) * self.hidden, 2
        constants = [
            self.writer.constant(self._label(f"{label}_{what}"), np.asarray([n], np.int64))
            for what, n in zip(("start", "end", "axis"), ends, strict=True)
        ]
        return self._op("Slice", [value, *constants], f"{label}_{first}", self._wide(count))

    @property
    def _state(self) -> tuple[int, int, int]:
        return self._wide(1)

    def _wide(self, times: int) -> tuple[int, int, int]:
        return (1, self.batch, times * self.hidden)

    def _op(
        self, op_type: str, inputs: Sequence[ir.Value], label: str, shape: Sequence[int]
    ) -> ir.Value:
        return self.writer.op(op_type, inputs, self._label(label), shape)

    def _label(self, label: str) -> str:
        return f"back_{label}" if self.index else label


def _finish(writer: _Writer, node: ir.Node, directions: Sequence[_Direction]) -> None:
    """Give the node's outputs what was written, and take it out."""
    makers = (_all_steps, _last_h, _last_c)
    for old, make in zip(node.outputs, makers, strict=False):
        if not old.uses() and not old.is_graph_output():
            continue
        new = make(writer, directions)
        if new.is_graph_output() or len(new.uses()):
            new = writer.op("Identity", [new], "result", g.static_shape(new) or ())
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name, new.shape, new.type = old.name, old.shape, old.type
    fed = tuple(node.inputs)
    writer.graph.remove(node, safe=True)
    prune(fed)


def _all_steps(writer: _Writer, directions: Sequence[_Direction]) -> ir.Value:
    """Y, (steps, directions, batch, hidden)."""
    sides = []
    for one in directions:
        shape = (one.steps, 1, one.batch, one.hidden)
        steps = [one.outputs[t] for t in range(one.steps)]
        label = f"steps_{one.index}"
        flat = writer.op("Concat", steps, label, (one.steps, one.batch, one.hidden), axis=0)
        target = writer.constant(f"{label}_shape", np.asarray(shape, np.int64))
        sides.append(writer.op("Reshape", [flat, target], f"{label}_side", shape))
    if len(sides) == 1:
        return sides[0]
    first = directions[0]
    whole = (first.steps, len(sides), first.batch, first.hidden)
    return writer.op("Concat", sides, "all_steps", whole, axis=1)


def _last_h(writer: _Writer, directions: Sequence[_Direction]) -> ir.Value:
    return _side_by_side(writer, [one.h for one in directions], directions[0], "last_h")


def _last_c(writer: _Writer, directions: Sequence[_Direction]) -> ir.Value:
    return _side_by_side(writer, [one.c for one in directions], directions[0], "last_c")


def _side_by_side(
    writer: _Writer, states: Sequence[ir.Value | None], one: _Direction, label: str
) -> ir.Value:
    """(directions, batch, hidden)."""
    given = [state for state in states if state is not None]
    if len(given) == 1:
        return given[0]
    shape = (len(given), one.batch, one.hidden)
    return writer.op("Concat", given, label, shape, axis=0)
