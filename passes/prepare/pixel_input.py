"""An input that is ``(u - mean) / std`` of bytes u, read as bytes; layers do the difference."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.pixels import PIXELS_KEY, Pixels, pixels_from_json, pixels_to_json
from qcompile.passes.prepare.edit import insert, is_op, set_constant

NAME = "PixelInput"

NEAR: float = 0.5
"""Steps of a byte by which padding may stand off the mean: what any whole zero point must allow."""


@dataclass(frozen=True)
class PixelInput(ir.passes.InPlacePass):
    """Let a float input be read as bytes on one grid, and the layers behind it do the difference.

    With ``x = (u - m_c) / s_c`` for a channel c, ``v = (u - z) / s`` for one whole number z next to
    the mean of all m and s the mean of all s::

        v = x * (s_c / s) + (m_c - z) / s        in front: what an app's bytes stand for
        x = v * (s / s_c) + (z - m_c) / s_c      behind: folded away

    1. Where one number serves all channels and m is whole, v is x and nothing changes.
    2. Behind v, through Transposes, stand only Convs with constant weights: the factor goes into
       the weights, ``W'_c = W_c * s / s_c``, and the shift into the bias, ``b + sum(W_c * shift)``.
    3. A Conv that pads with zeros pads v where it should pad x. Up to ``NEAR`` steps of a byte that
       is taken as it is (an error at the border alone); beyond, the shift stays an Add before it.
    4. Anything else behind v gets x from a Mul and an Add.

    It keeps the float function, up to rule 3. The input keeps its name and its meaning; which value
    stands for the bytes is noted in the model (``core.pixels``). Left alone: an input that is not
    of float32, is an output too, or that the model does not have.
    """

    name: str
    """Of the input."""
    mean: tuple[float, ...]
    """One number, or one a channel: of bytes, 0 to 255."""
    std: tuple[float, ...]
    """As many; positive."""
    axis: int
    """Where the input has its channels."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass; a second run finds the note of the first."""
        known = pixels_from_json(model.metadata_props.get(PIXELS_KEY))
        value = next((v for v in model.graph.inputs if v.name == self.name), None)
        is_other = value is None or value.dtype != ir.DataType.FLOAT or value.is_graph_output()
        if self.name in known or value is None or is_other:
            return ir.passes.PassResult(model, modified=False)
        maker = _Maker(model.graph, value, self)
        made = maker.run()
        model.metadata_props[PIXELS_KEY] = pixels_to_json({**known, self.name: made})
        return ir.passes.PassResult(model, modified=True)


class _Maker:
    """Rewires one input."""

    def __init__(self, graph: ir.Graph, value: ir.Value, given: PixelInput) -> None:
        self.graph, self.value, self.given = graph, value, given
        channels = max(len(given.mean), len(given.std))
        self.mean = np.broadcast_to(np.asarray(given.mean, np.float64), (channels,))
        self.std = np.broadcast_to(np.asarray(given.std, np.float64), (channels,))
        self.scale = 1.0 / float(self.std.mean())
        self.zero = int(np.clip(np.rint(self.mean.mean()), 0, 255))

    def run(self) -> Pixels:
        factor, shift = 1.0 / (self.std * self.scale), (self.zero - self.mean) / self.std
        uses = list(self.value.uses())
        first = next(iter(self.graph), None)
        stands, nodes = self.value, []
        if first is not None and not (np.all(factor == 1) and np.all(shift == 0)):
            stands = self._affine(first, self.value, 1 / factor, -shift / factor, "pixels")
            nodes = _makers(stands, self.value)
            self._behind(stands, [(u.node, u.idx) for u in uses], factor, shift)
        return Pixels(
            stands.name or "",
            self.scale,
            self.zero,
            tuple(map(float, self.mean)),
            tuple(map(float, self.std)),
            self.given.axis,
            tuple(nodes),
        )

    def _behind(
        self,
        stands: ir.Value,
        uses: list[tuple[ir.Node, int]],
        factor: np.ndarray,
        shift: np.ndarray,
    ) -> None:
        """Let what read the input read ``stands``."""
        for node, index in uses:
            node.replace_input_with(index, stands)
        layers = _layers(stands, self.given.axis) if uses and not _is_output(stands) else None
        far = bool(np.abs(self.zero - self.mean).max() > NEAR)
        if layers is None:
            readers = [use.node for use in stands.uses()]
            whole = self._affine(_earliest(self.graph, readers), stands, factor, shift, "floats")
            _hand_over(stands, whole, uses)
        elif far and any(map(_pads, layers)):
            readers = [use.node for use in stands.uses()]
            ones = np.ones_like(factor)
            moved = self._affine(
                _earliest(self.graph, readers), stands, ones, shift / factor, "centred"
            )
            _hand_over(stands, moved, uses)
            for layer in layers:
                _fold(layer, factor, np.zeros_like(shift))
        else:
            for layer in layers:
                _fold(layer, factor, shift)

    def _affine(
        self, before: ir.Node, value: ir.Value, factor: np.ndarray, shift: np.ndarray, what: str
    ) -> ir.Value:
        """``value * factor + shift`` for each channel, without the steps that do nothing."""
        name = f"{self.value.name}_{what}"
        for op, vector, nothing in (("Mul", factor, 1), ("Add", shift, 0)):
            if np.all(vector == nothing):
                continue
            operand = g.make_initializer(self.graph, f"{name}_{op.lower()}", self._shaped(vector))
            value = insert(before, op, [value, operand], name, NAME, like=value)
        return value

    def _shaped(self, vector: np.ndarray) -> np.ndarray:
        """One number where it serves all, else along the channels."""
        if np.all(vector == vector[0]):
            return np.asarray(vector[0], np.float32)
        rank = g.rank(self.value) or self.given.axis + 1
        return vector.astype(np.float32).reshape([-1] + [1] * (rank - self.given.axis - 1))


def _makers(value: ir.Value, source: ir.Value) -> list[str]:
    """Names of the nodes between two values, in a chain."""
    names: list[str] = []
    while value is not source and (node := value.producer()) is not None:
        names.append(node.name or "")
        assert node.inputs[0] is not None
        value = node.inputs[0]
    return names[::-1]


def _hand_over(old: ir.Value, new: ir.Value, uses: Iterable[tuple[ir.Node, int]]) -> None:
    for node, index in uses:
        if node.inputs[index] is old and new is not old:
            node.replace_input_with(index, new)


def _earliest(graph: ir.Graph, nodes: list[ir.Node]) -> ir.Node:
    """The first node of the graph that is one of these, or holds one in its body."""
    wanted = set(nodes)
    found = next((node for node in graph if node in wanted), None)
    if found is not None:
        return found
    first = next(iter(graph))  # read in the body of an If: as early as can be, behind the front
    while first.metadata_props.get(g.PASS_KEY) == NAME:
        later = next((n for n in graph if n.metadata_props.get(g.PASS_KEY) != NAME), None)
        if later is None:
            return first
        first = later
    return first


def _is_output(value: ir.Value) -> bool:
    return value.is_graph_output()


def _layers(value: ir.Value, axis: int) -> list[ir.Node] | None:
    """The Convs that read a value, through Transposes; None where anything else does."""
    found: list[ir.Node] = []
    for use in value.uses():
        node = use.node
        if is_op(node, "Transpose") and not node.outputs[0].is_graph_output():
            rank = g.rank(value) or 0
            perm = g.attribute_ints(node, "perm", tuple(range(rank))[::-1])
            behind = _layers(node.outputs[0], perm.index(axis)) if axis in perm else None
            if behind is None:
                return None
            found += behind
        elif is_op(node, "Conv") and use.idx == 0 and axis == 1 and _has_constants(node):
            found.append(node)
        else:
            return None
    return found


def _has_constants(node: ir.Node) -> bool:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return g.constant(node.inputs[1]) is not None and (bias is None or g.constant(bias) is not None)


def _pads(node: ir.Node) -> bool:
    same = g.attribute_str(node, "auto_pad", "NOTSET") in {"SAME_UPPER", "SAME_LOWER"}
    return same or any(g.attribute_ints(node, "pads"))


def _fold(node: ir.Node, factor: np.ndarray, shift: np.ndarray) -> None:
    """``Conv(v * factor + shift)`` as ``Conv'(v)``; computed in float64."""
    weight = g.constant(node.inputs[1])
    assert weight is not None
    groups, of_group = g.attribute_int(node, "group", 1), weight.shape[1]
    # Output o lies in group o // (outputs / groups), whose inputs are the next ``of_group``.
    group = np.arange(weight.shape[0]) // (weight.shape[0] // groups)
    inputs = group[:, None] * of_group + np.arange(of_group)
    every = (groups * of_group,)
    factors, shifts = (np.broadcast_to(v, every)[inputs] for v in (factor, shift))
    wide = weight.astype(np.float64)
    sums = wide.reshape(*weight.shape[:2], -1).sum(axis=2)
    if np.any(shifts):
        old = g.constant(node.inputs[2]) if len(node.inputs) > 2 else None
        bias = (sums * shifts).sum(axis=1) + (0 if old is None else old.astype(np.float64))
        set_constant(node, 2, bias.astype(np.float32), f"{node.name}_bias")
    if np.any(factors != 1):
        shape = (*weight.shape[:2], *[1] * (weight.ndim - 2))
        set_constant(node, 1, (wide * factors.reshape(shape)).astype(np.float32))
