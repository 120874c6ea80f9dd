"""Reads an ONNX file for a comparison: float, ours, or another tool's QDQ model.

A value is called as in the user's model: a QuantizeLinear is named by what it quantizes, whatever
the tool calls its output; a value between an integer node and its quantizer does not exist in
integers and is passed over.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler import measure
from qcompile.compiler.diff.side import Grid, NodeInfo, Role, Side, Site
from qcompile.compiler.importers.source import Source, load_source
from qcompile.core import graph as g
from qcompile.core.numerics.affine import LIMITS
from qcompile.core.plan import QuantParams
from qcompile.targets.onnxruntime.backend import OrtBackend

_Q: Final = "QuantizeLinear"
_DQ: Final = "DequantizeLinear"
_FORM: Final = frozenset({_Q, _DQ, "DynamicQuantizeLinear", "Constant"})
_CLAMPS: Final = frozenset({"Relu", "Clip"})
_DYNAMIC: Final = frozenset(
    {"MatMulInteger", "ConvInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
)
"""Operators that take integers whose scale was found as the model ran."""
_STORED: Final = ("_quantized", "_q", "_QuantizeLinear_Output")
"""What tools append to the name of a constant that they quantize."""
_TYPES: Final = {"float": "float32", "double": "float64"}
"""ONNX's names of types -> those of everyone else."""
_MOVED: Final = ("_float", "_QuantizeLinear_Input")
"""What tools append to the name of an output whose own name its dequantized form takes."""


def read_onnx(
    path: Path, shapes: Mapping[str, Sequence[int]], source: Source | None = None
) -> Side:
    """Read an ONNX file; ``source`` says where it is what a model of another format became.

    Raises:
        QCompileError: as ``importers.onnx.load_onnx``.
    """
    read = source or Source(path.name, path, "onnx")
    imported = load_source(read, shapes, allow_integer=True)
    reader = _Reader(imported.model.graph)
    reader.run()
    facts = OrtBackend().facts(path)
    return Side(
        path=path,
        format="onnx",
        info=measure.file_info(path, imported),
        operators=Counter(node.op_type for node in imported.model.graph),
        weight_bytes=_weight_bytes(imported.model),
        nodes=reader.nodes,
        grids=reader.grids,
        sites=reader.sites,
        makers=reader.makers,
        parents=reader.parents,
        constants=_constants(imported.model.graph),
        clamps=reader.clamps,
        target=facts.target,
        facts=facts,
        imported=imported,
    )


class _Reader:
    """Goes through one graph in order."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.outputs = {value.name for value in graph.outputs}
        self.nodes: dict[str, NodeInfo] = {}
        self.grids: dict[str, Grid] = {}
        self.sites: dict[str, Site] = {}
        self.makers: dict[str, tuple[str, str]] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.clamps: dict[str, str] = {}

    def run(self) -> None:
        for value in self.graph.inputs:
            if value.name not in self.graph.initializers:
                self._value(value)
        for node in self.graph:
            if node.op_type == _DQ:
                self._constant(node)
            elif node.op_type not in _FORM:
                self._node(node)

    def _node(self, node: ir.Node) -> None:
        read = dict.fromkeys(name for v in node.inputs for name in self._source(v))
        mode = self._mode(node)
        if mode is not None:
            self.nodes[node.name or ""] = NodeInfo(node.op_type, mode)
        source = node.inputs[0] if node.inputs else None
        if node.op_type in _CLAMPS and source is not None and g.only_consumer(source) is node:
            self.clamps[self._name(source)] = self._name(node.outputs[0])
        for value in node.outputs:
            name = self._name(value)
            self.makers[name] = (node.name or "", node.op_type)
            self.parents[name] = tuple(read)
            self._value(value, inside=mode == "integer")

    def _value(self, value: ir.Value, *, inside: bool = False) -> None:
        """Where a value can be read; ``inside``: as floats only if the model gives it so."""
        name = self._name(value)
        if name in self.sites:
            return
        for use in value.uses():
            grid = _grid(use.node, "activation")
            if use.node.op_type == _Q and use.idx == 0 and grid is not None:
                self.grids[name] = grid
                self.sites[name] = Site(use.node.outputs[0].name or "", grid)
                return
            if use.node.op_type == _DQ and value.is_graph_input() and grid is not None:
                self.grids[name] = grid
                self.sites[name] = Site(value.name or "", grid)
                return
        is_float = value.dtype is None or value.dtype.is_floating_point()
        if is_float and (not inside or value.is_graph_output()):
            self.sites[name] = Site(value.name or "")

    def _constant(self, node: ir.Node) -> None:
        stored = node.inputs[0]
        if g.constant(stored) is None or stored is None:
            return
        grid = _grid(node, "weight")
        if grid is not None and grid.dtype != "int32":
            self.grids[_without(stored.name or "", _STORED)] = grid

    def _name(self, value: ir.Value) -> str:
        name = value.name or ""
        original = _without(name, _MOVED)
        return original if original in self.outputs else name

    def _source(self, value: ir.Value | None) -> Iterator[str]:
        """The computed value that an input is, through its quantizer."""
        while value is not None and g.constant(value) is None:
            node = value.producer()
            if node is None or node.op_type not in {_Q, _DQ, "DynamicQuantizeLinear"}:
                yield self._name(value)
                return
            value = node.inputs[0]

    def _mode(self, node: ir.Node) -> str | None:
        """What a node is without a plan that says it; None for one that computes no reals."""
        if node.op_type in _DYNAMIC:
            return "dynamic"
        makers = [(v, v.producer()) for v in node.inputs if v is not None]
        back = [n.inputs[0] for _, n in makers if n is not None and n.op_type == _DQ]
        kinds = {_kind(value) for value in back}
        for kind in ("dynamic", "integer", "weights"):
            if kind in kinds:
                return kind
        values = (*node.outputs, *(v for v, _ in makers))
        is_real = any(v.dtype is not None and v.dtype.is_floating_point() for v in values)
        return "float" if is_real else None


def _kind(stored: ir.Value | None) -> str:
    """What a node is that reads these integers, as floats."""
    if g.constant(stored) is not None:
        return "weights"
    maker = None if stored is None else stored.producer()
    is_dynamic = maker is not None and maker.op_type == "DynamicQuantizeLinear"
    return "dynamic" if is_dynamic else "integer"


def _grid(node: ir.Node, role: Role) -> Grid | None:
    """The parameters of a quantizer or dequantizer, if they are constant and of a known type."""
    if node.op_type not in {_Q, _DQ}:
        return None
    scale = g.constant(node.inputs[1])
    typed = node.inputs[0] if node.op_type == _DQ else node.outputs[0]
    given = node.inputs[2] if len(node.inputs) > 2 else None
    zero = np.zeros((), np.int64) if given is None else g.constant(given)
    kind = given.dtype if given is not None else typed.dtype if typed is not None else None
    name = "uint8" if kind is None else kind.name.lower()
    if scale is None or zero is None or name not in LIMITS or scale.ndim > 1:
        return None
    zero = np.broadcast_to(zero.astype(np.int64), scale.shape)
    return Grid(role, name, QuantParams(scale.astype(np.float32), zero))


def _without(name: str, ends: tuple[str, ...]) -> str:
    for end in ends:
        if name.endswith(end):
            return name.removesuffix(end)
    return name


def _constants(graph: ir.Graph) -> dict[str, Callable[[], np.ndarray]]:
    parameters = {v for n in graph if n.op_type in {_Q, _DQ} for v in n.inputs[1:]}
    return {
        name: value.const_value.numpy
        for name, value in graph.initializers.items()
        if value.const_value is not None and value not in parameters
    }


def _weight_bytes(model: ir.Model) -> Counter[str]:
    sizes: Counter[str] = Counter()
    for graph in model.graphs():
        for value in graph.initializers.values():
            tensor = value.const_value
            if tensor is not None:
                kind = tensor.dtype.name.lower()
                sizes[_TYPES.get(kind, kind)] += tensor.nbytes
    return sizes
