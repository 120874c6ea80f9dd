"""Groups of values that share their channels, so that one factor a channel can pass through them.

A layer's output, what a Relu or a pool makes of it, and what a residual Add joins to it are one
group: divide the channels of all of them by ``s``, and the layers that write into the group and
those that read from it can take that up in their weights,

    R(f(W x + b)) = R'(f(W' x + b'))    with W' = W / s, b' = b / s, R' = R * s,

for every f with ``f(x / s) = f(x) / s``.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.passes.prepare.edit import GRID_KEYS, is_constant, is_op
from qcompile.passes.prepare.linear import Layer, layer_of
from qcompile.passes.transform.lanes import MOVERS, Lane, clip_of, homogeneous


@dataclass(frozen=True, eq=False)
class Reader:
    """A layer that reads the group: ``index[c]`` is the channel of the group in its input c."""

    layer: Layer
    index: np.ndarray


@dataclass(frozen=True, eq=False)
class Vector:
    """A constant with one number a channel that is divided as the group is: a gain or a summand."""

    node: ir.Node
    slot: int
    axis: int
    index: np.ndarray

    @property
    def array(self) -> np.ndarray:
        """The constant as it is."""
        array = g.constant(self.node.inputs[self.slot])
        assert array is not None
        return array

    def over(self, factors: np.ndarray) -> np.ndarray:
        """Factors of the group's channels, shaped to broadcast over the constant."""
        shape = [1] * self.array.ndim
        shape[self.axis] = -1
        return np.reshape(factors[self.index], shape)


@dataclass(eq=False)
class Group:
    """Values that are scaled together, and everything a factor must go into."""

    key: str
    """Name of the first value."""
    channels: int
    writers: list[Layer] = field(default_factory=list)
    vectors: list[Vector] = field(default_factory=list)
    norms: list[ir.Node] = field(default_factory=list)
    """Normalizations (or a Mul by a constant gain) that write into the group."""
    readers: list[Reader] = field(default_factory=list)
    values: list[tuple[ir.Value, Lane]] = field(default_factory=list)
    clips: list[ir.Node] = field(default_factory=list)
    """Clips whose limit stands in the way of a factor."""
    faults: list[str] = field(default_factory=list)
    """Why the group cannot be scaled; empty where it can."""

    def layers(self) -> Iterator[Layer]:
        """The layers around the group; one that reads and writes it is named twice."""
        yield from self.writers
        yield from (reader.layer for reader in self.readers)

    def absorb(self, other: "Group") -> None:
        """Take in all that another group holds."""
        for name in ("writers", "vectors", "norms", "readers", "values", "clips", "faults"):
            getattr(self, name).extend(getattr(other, name))


def find_groups(graph: ir.Graph) -> list[Group]:
    """The groups of a canonical graph in graph order, those with faults included."""
    search = _Search(graph)
    for node in graph:
        search.visit(node)
    return search.groups()


class _Search:
    """One walk over the nodes, carrying the lane of each value."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.lanes: dict[ir.Value, Lane] = {}
        self._groups: dict[int, Group] = {}
        self._parent: dict[int, int] = {}

    def groups(self) -> list[Group]:
        return list(self._groups.values())

    def group(self, lane: Lane) -> Group:
        return self._groups[self._root(lane.root)]

    def visit(self, node: ir.Node) -> None:
        """Carry the lanes of a node's inputs to its output, or say what stops them."""
        layer = layer_of(node)
        if layer is not None:
            self._layer(layer)
            return
        lanes = [self._lane(v) for v in node.inputs]
        found = [lane for lane in lanes if lane is not None]
        if not found:
            self._begin_at_norm(node)
            return
        carried = self._carried(node, lanes)
        if carried is None:
            self._stop(node, found)
            self._begin_at_norm(node)
            return
        self._put(node.outputs[0], carried)
        if any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
            self._stop(node, found)

    # --- what begins and ends a group ----------------------------------------------------------

    def _layer(self, layer: Layer) -> None:
        node = layer.node
        source = self._lane(node.inputs[0])
        for value in node.inputs[1:]:
            self._stop_lane(self._lane(value), f"{node.name} reads it as a weight")
        fault = _layer_fault(layer, self.graph)
        if source is not None:
            reads_along = layer.output_rank - 1 if is_op(node, "MatMul") else 1
            if source.axis != reads_along or source.index.size != layer.in_channels:
                fault = fault or f"{node.name} reads it along another axis"
            if fault is not None:
                self._stop_lane(source, fault)
            self.group(source).readers.append(Reader(layer, source.index))
        if fault is None:
            lane = self._new(node.outputs[0], layer.channel_axis, layer.out_channels)
            self.group(lane).writers.append(layer)

    def _begin_at_norm(self, node: ir.Node) -> None:
        """LayerNormalization over the last axis, or a Mul by a constant gain along it."""
        output = node.outputs[0]
        rank = g.rank(output)
        if rank is None or not is_op(node, "LayerNormalization", "RMSNormalization", "Mul"):
            return
        if is_op(node, "Mul"):
            slots = [i for i, v in enumerate(node.inputs) if is_constant(v)]
        else:
            if g.attribute_int(node, "axis", -1) not in {-1, rank - 1}:
                return
            slots = [i for i in range(1, len(node.inputs)) if node.inputs[i] is not None]
        array = g.constant(node.inputs[slots[0]]) if slots else None
        if array is None or not array.ndim or array.size != array.shape[-1] or array.size < 2:
            return
        lane = self._new(output, rank - 1, array.size)
        vectors = [_vector(node, slot, lane, self.graph) for slot in slots]
        group = self.group(lane)
        group.norms.append(node)
        group.vectors.extend(v for v in vectors if v is not None)
        if any(v is None for v in vectors):
            group.faults.append(f"a constant of {node.name} is not its own")

    def _new(self, value: ir.Value, axis: int, channels: int) -> Lane:
        root = len(self._parent)
        self._parent[root] = root
        self._groups[root] = Group(value.name or "", channels)
        lane = Lane(root, axis, np.arange(channels))
        self._put(value, lane)
        return lane

    def _put(self, value: ir.Value, lane: Lane) -> None:
        self.lanes[value] = lane
        group = self.group(lane)
        group.values.append((value, lane))
        if value.is_graph_output():
            group.faults.append(f"{value.name} is an output of the model")
        if any(use.node.graph is not self.graph for use in value.uses()):
            group.faults.append(f"{value.name} is read in the body of an If or Loop")

    # --- what passes through -------------------------------------------------------------------

    def _carried(self, node: ir.Node, lanes: list[Lane | None]) -> Lane | None:
        """The lane of the output; None when the node does not let a factor through."""
        if is_op(node, "Add"):
            return self._sum(node, lanes)
        if is_op(node, "Mul"):
            return self._product(node, lanes)
        first = lanes[0]
        if first is None or any(lane is not None for lane in lanes[1:]):
            return None
        if is_op(node, "Clip"):
            limits = clip_of(node)
            if limits is None:
                return None
            if not homogeneous(limits):
                self.group(first).clips.append(node)
            return first
        mover = MOVERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        return None if mover is None else mover(node, first)

    def _sum(self, node: ir.Node, lanes: list[Lane | None]) -> Lane | None:
        a, b = lanes
        lane = a if a is not None else b
        assert lane is not None
        if a is not None and b is not None:
            ranks = {g.rank(v) for v in node.inputs}
            if len(ranks) > 1 or not a.alike(b):
                return None
            self._join(a, b)
            return a
        slot = lanes.index(None)
        vector = _vector(node, slot, lane, self.graph)
        if vector is None:
            return None
        self.group(lane).vectors.append(vector)
        return lane

    def _product(self, node: ir.Node, lanes: list[Lane | None]) -> Lane | None:
        """A factor goes through a product where one side carries it."""
        if all(lane is not None for lane in lanes):
            return None
        slot = 0 if lanes[0] is not None else 1
        lane, value = lanes[slot], node.inputs[slot]
        rank, out = g.rank(value), g.rank(node.outputs[0])
        if lane is None or value is None or value.shape is None or rank != out:
            return None
        made = node.outputs[0].shape
        return lane if made is not None and made[lane.axis] == value.shape[lane.axis] else None

    def _join(self, a: Lane, b: Lane) -> None:
        one, other = sorted((self._root(a.root), self._root(b.root)))
        if one != other:
            self._parent[other] = one
            self._groups[one].absorb(self._groups.pop(other))

    # --- book-keeping --------------------------------------------------------------------------

    def _lane(self, value: ir.Value | None) -> Lane | None:
        """The lane of a value whose group can still be scaled."""
        lane = self.lanes.get(value) if value is not None else None
        return None if lane is None or self.group(lane).faults else lane

    def _root(self, root: int) -> int:
        while self._parent[root] != root:
            root = self._parent[root]
        return root

    def _stop(self, node: ir.Node, lanes: list[Lane]) -> None:
        for lane in lanes:
            self._stop_lane(lane, f"{node.op_type} {node.name} does not let a factor through")

    def _stop_lane(self, lane: Lane | None, why: str) -> None:
        if lane is not None:
            self.group(lane).faults.append(why)


def _layer_fault(layer: Layer, graph: ir.Graph) -> str | None:
    """Why the weight of a layer cannot be changed."""
    node = layer.node
    if is_op(node, "Gemm") and g.attribute_int(node, "transA", 0):
        return f"{node.name} transposes its input"
    weight = node.inputs[1]
    if weight is None or not _is_own(weight, graph):
        return f"the weight of {node.name} is read elsewhere too"
    if any(key in weight.metadata_props for key in GRID_KEYS):
        return f"the weight of {node.name} lies on an integer grid, which a factor would leave"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is not None and not _is_own(bias, graph):
        return f"the bias of {node.name} is read elsewhere too"
    return None


def _vector(node: ir.Node, slot: int, lane: Lane, graph: ir.Graph) -> Vector | None:
    """The constant input of a node as a vector along the lane; None when it is not that."""
    value, rank = node.inputs[slot], g.rank(node.outputs[0])
    array = g.constant(value)
    if value is None or array is None or rank is None or not _is_own(value, graph):
        return None
    axis = lane.axis - (rank - array.ndim)
    if axis < 0 or array.shape[axis] != lane.index.size:
        return None
    return Vector(node, slot, axis, lane.index)


def _is_own(value: ir.Value, graph: ir.Graph) -> bool:
    """Whether a constant is an initializer that one node reads, once."""
    return (
        value.is_initializer()
        and value.graph is graph
        and len(value.uses()) == 1
        and not value.is_graph_output()
        and not value.is_graph_input()
    )
