"""The inside of an artefact as machines are compared by it: values that can be read, in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np

from qcompile.compiler.diff.onnx_side import read_onnx
from qcompile.compiler.diff.parting import nearest
from qcompile.compiler.diff.side import Grid, Side
from qcompile.compiler.diff.tflite_side import read_tflite
from qcompile.compiler.verify.allowed import Runtime, allowed
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds, Session
from qcompile.targets.onnxruntime import cut as onnx_cut
from qcompile.targets.onnxruntime.executor import open_artefact

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Inner:
    """A computed value that can be read."""

    name: str
    """The user's name."""
    tensor: str
    """Where the file stores it."""
    node: str
    op: str
    grid: Grid | None
    """None where it is stored in floats."""
    end: str
    """Where a file that ends at it ends: behind the dequantizer, where it has one. On x86 ONNX
    Runtime turns S8 into U8 between the two, and leaves S8 that a file hands out as it is."""
    parents: frozenset[str]
    """Names of the nearest readable values that it is made from; inputs are left out."""
    allowed: float
    """What machines may differ by when its parents are equal."""

    @property
    def steps(self) -> bool:
        """Whether it is counted in steps."""
        return self.grid is not None


class ReferenceRun(Protocol):
    """Computes outputs and inner values of an artefact as they should be."""

    @property
    def rule(self) -> str:
        """Whose arithmetic, in words."""

    def run(self, feeds: Feeds) -> Arrays:
        """Outputs and inner tensors by their names."""


@dataclass(frozen=True, eq=False)
class Inside:
    """An artefact, what can be read in it, and the same file cut or with more outputs."""

    path: Path
    runtime: Runtime
    side: Side

    @cached_property
    def data(self) -> bytes:
        """The file."""
        return self.path.read_bytes()

    @cached_property
    def values(self) -> tuple[Inner, ...]:
        """Every computed value that can be read, each behind those that it is made from."""
        side = self.side
        ends = {spec.name for spec in side.facts.inputs} if side.facts is not None else set()
        made = [name for name in side.sites if name in side.makers]
        made = [name for name in made if side.sites[name].tensor not in ends]
        known = set(made)
        return tuple(self._inner(name, known) for name in made)

    def _inner(self, name: str, known: set[str]) -> Inner:
        site = self.side.sites[name]
        node, op = self._maker(name, known)
        info = self.side.nodes.get(node)
        integer = info is not None and info.mode == "integer"
        return Inner(
            name=name,
            tensor=site.tensor,
            node=node,
            op=op,
            grid=site.grid,
            end=self._dequantized.get(site.tensor, site.tensor),
            parents=frozenset(nearest(name, self.side.parents, known.__contains__)),
            allowed=allowed(self.runtime, op, steps=site.grid is not None, integer=integer),
        )

    def _maker(self, name: str, known: set[str]) -> tuple[str, str]:
        """The node that a value is held against: behind a Cast that alone reads 32-bit sums, which
        cannot be watched, the one that sums.
        """
        node, op = self.side.makers[name]
        above = self.side.parents.get(name, ())
        if op == "Cast" and len(above) == 1 and above[0] not in known:
            return self.side.makers.get(above[0], (node, op))
        return node, op

    @cached_property
    def _dequantized(self) -> Mapping[str, str]:
        """Of an ONNX file: tensor -> what its first dequantizer makes of it."""
        if self.side.imported is None:
            return {}
        graph = self.side.imported.model.graph
        ends = {output.name for output in graph.outputs}
        pairs: dict[str, str] = {}
        for node in graph:
            if node.op_type == "DequantizeLinear" and node.inputs[0] is not None:
                pairs.setdefault(node.inputs[0].name or "", node.outputs[0].name or "")
        return {tensor: made for tensor, made in pairs.items() if tensor not in ends}

    def output_value(self, name: str) -> Inner | None:
        """The inner value that an output hands out, in integers or as floats."""
        return self._by_output.get(name)

    @cached_property
    def _by_output(self) -> Mapping[str, Inner]:
        found = {value.name: value for value in self.values}
        imported = self.side.imported
        if imported is None:
            return found
        by_tensor = {value.tensor: value for value in self.values}
        for output in imported.model.graph.outputs:
            maker = output.producer()
            if maker is not None and maker.op_type == "DequantizeLinear" and maker.inputs[0]:
                inner = by_tensor.get(maker.inputs[0].name or "")
                found |= {output.name or "": inner} if inner is not None else {}
        return found

    def exposed(self, tensors: Sequence[str]) -> bytes:
        """The file with inner tensors as further outputs."""
        return _cutter(self.runtime).exposed(self.data, tensors)

    def cut(self, tensors: Sequence[str]) -> bytes:
        """The file that ends at these tensors."""
        return _cutter(self.runtime).cut(self.data, tensors)

    def reference(self) -> ReferenceRun:
        """What computes its integers as they should be.

        Raises:
            QCompileError: what loading raises.
        """
        tensors = list(dict.fromkeys(value.tensor for value in self.values))
        if self.runtime == "onnxruntime":
            return _Exact(open_artefact(self.exposed(tensors), exact=True))
        from qcompile.compiler.verify.inside_tflite import reference_of

        return reference_of(self.data, tensors)


def look_inside(path: Path, shapes: Mapping[str, Sequence[int]]) -> Inside:
    """Read an artefact.

    Raises:
        QCompileError: as the readers of ``diff``; DEVICE_UNFIT for an ONNX file whose weights lie
            in other files.
    """
    if path.suffix == ".tflite":
        return Inside(path, "tflite", read_tflite(path))
    side = read_onnx(path, shapes)
    if side.has_external_data:
        raise QCompileError(
            Code.DEVICE_UNFIT, f"{path.name} keeps weights in other files; a device takes one file"
        )
    return Inside(path, "onnxruntime", side)


class _Cutter(Protocol):
    def exposed(self, artefact: bytes, names: Sequence[str]) -> bytes: ...

    def cut(self, artefact: bytes, names: Sequence[str]) -> bytes: ...


def _cutter(runtime: Runtime) -> _Cutter:
    if runtime == "onnxruntime":
        return onnx_cut
    from qcompile.targets.tflite import cut as tflite_cut

    return tflite_cut


@dataclass(frozen=True)
class _Exact:
    session: Session
    rule: str = "ONNX Runtime's kernels with exact sums, in this process"

    def run(self, feeds: Feeds) -> Arrays:
        return dict(zip(self.session.output_names, self.session.run(feeds), strict=True))
