"""Reads a TFLite file for a comparison; in ours tensors are called as the user's values."""

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Final

from qcompile.compiler import measure
from qcompile.compiler.diff.side import Grid, NodeInfo, Side, Site
from qcompile.compiler.importers.reading import read_model_file
from qcompile.core.numerics.affine import LIMITS
from qcompile.core.plan import QuantParams
from qcompile.targets.tflite.backend import TfliteBackend
from qcompile.targets.tflite.reading import Graph, Operator, Tensor, read_graph

_STORED: Final = "_quantized"
_BETWEEN: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})


def read_tflite(path: Path) -> Side:
    """Read a TFLite file.

    Raises:
        QCompileError: MODEL_NOT_FOUND, MODEL_UNREADABLE, MODEL_INVALID.
    """
    data = read_model_file(path)
    graph = read_graph(data)
    facts = TfliteBackend().facts(data)
    reader = _Reader(graph)
    reader.run()
    sizes: Counter[str] = Counter()
    for tensor in graph.tensors:
        if tensor.is_constant:
            sizes[tensor.dtype] += tensor.nbytes
    return Side(
        path=path,
        format="tflite",
        info=measure.artefact_info(data, facts, path.name),
        operators=Counter(operator.name for operator in graph.operators),
        weight_bytes=sizes,
        nodes=reader.nodes,
        grids=reader.grids,
        sites=reader.sites,
        makers=reader.makers,
        parents=reader.parents,
        constants={
            tensor.name: partial(getattr, tensor, "array")
            for tensor in graph.tensors
            if tensor.is_constant
        },
        fused=frozenset() if facts.target else frozenset(reader.fused),
        target=facts.target,
        facts=facts,
    )


class _Reader:
    """Goes through one graph in order."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[str, NodeInfo] = {}
        self.grids: dict[str, Grid] = {}
        self.sites: dict[str, Site] = {}
        self.makers: dict[str, tuple[str, str]] = {}
        self.parents: dict[str, tuple[str, ...]] = {}
        self.fused: set[str] = set()

    def run(self) -> None:
        for tensor in self.graph.tensors:
            grid = _grid(tensor) if tensor.is_constant else None
            if grid is not None:
                self.grids[tensor.name.removesuffix(_STORED)] = grid
        for index in self.graph.inputs:
            self._site(self.graph.tensors[index])
        for operator in self.graph.operators:
            self._operator(operator)

    def _operator(self, operator: Operator) -> None:
        read = [self.graph.tensor(i) for i in operator.inputs]
        names = dict.fromkeys(_name(t) for t in read if t is not None and not t.is_constant)
        made = [self.graph.tensors[i] for i in operator.outputs]
        for tensor in made:
            name = _name(tensor)
            self._site(tensor)
            if operator.name not in _BETWEEN:
                self.makers[name] = (name, operator.name)
                self.parents[name] = tuple(names)
        if operator.options.get("fusedActivationFunction"):
            self.fused.update(_name(tensor) for tensor in made)
        if operator.name not in _BETWEEN and made:
            operands = [t for t in (*read, *made) if t is not None]
            is_float = any(t.dtype.startswith("float") for t in operands)
            mode = "float" if is_float else "integer"
            self.nodes[_name(made[0])] = NodeInfo(operator.name, mode)

    def _site(self, tensor: Tensor) -> None:
        """The integers of a value win over the same value in float."""
        name, grid = _name(tensor), _grid(tensor)
        if grid is not None:
            self.grids[name] = grid
        if grid is not None or name not in self.sites:
            self.sites[name] = Site(tensor.name, grid)


def _name(tensor: Tensor) -> str:
    return tensor.name.removesuffix(_STORED)


def _grid(tensor: Tensor) -> Grid | None:
    q = tensor.quantization
    if q is None or tensor.dtype not in LIMITS or tensor.dtype == "int32":
        return None
    shape = () if q.scale.size == 1 else q.scale.shape
    zero = q.zero_point if q.zero_point.size == q.scale.size else q.zero_point[:1]
    if zero.size != q.scale.size:
        return None
    params = QuantParams(q.scale.reshape(shape), zero.reshape(shape))
    return Grid("weight" if tensor.is_constant else "activation", tensor.dtype, params)
