"""One side of a comparison: what is in a file, by the names of the user's model.

Every reader (``onnx_side``, ``tflite_side``, ``plan_side``) gives this record, and everything after
reads only it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.report.model import ModelInfo
from qcompile.core.backend import Facts
from qcompile.core.numerics.affine import LIMITS, zero_offset
from qcompile.core.plan import QuantParams, QuantPlan
from qcompile.passes.transform.scaled import Scaling

Format = Literal["onnx", "tflite", "plan"]
Role = Literal["activation", "weight"]


@dataclass(frozen=True, eq=False)
class Grid:
    """How a value is quantized."""

    role: Role
    dtype: str
    params: QuantParams

    def is_same(self, other: "Grid") -> bool:
        """Whether both hold the same real numbers, if perhaps in U8 here and in S8 there."""
        if LIMITS[self.dtype][1] - LIMITS[self.dtype][0] != (
            LIMITS[other.dtype][1] - LIMITS[other.dtype][0]
        ):
            return False
        ours, theirs = self._flat(), other._flat()
        return all(
            bool(np.all(a == b)) if 1 in (a.size, b.size) else np.array_equal(a, b)
            for a, b in zip(ours, theirs, strict=True)
        )

    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Scales, and zero points counted from the middle of the type."""
        zero = self.params.zero_point.reshape(-1) - zero_offset(self.dtype)
        return self.params.scale.reshape(-1), zero


@dataclass(frozen=True, eq=False)
class Site:
    """Where a computed value can be read while the file runs."""

    tensor: str
    grid: Grid | None = None
    """None when the tensor holds floats."""


@dataclass(frozen=True)
class NodeInfo:
    """What a node has become."""

    op: str
    mode: str
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Side:
    """What is in one file."""

    path: Path
    format: Format
    info: ModelInfo
    operators: Mapping[str, int] = field(default_factory=dict)
    weight_bytes: Mapping[str, int] = field(default_factory=dict)
    nodes: Mapping[str, NodeInfo] = field(default_factory=dict)
    """By name of the node."""
    grids: Mapping[str, Grid] = field(default_factory=dict)
    """By name of the value."""
    sites: Mapping[str, Site] = field(default_factory=dict)
    """By name of the value, in the order of the graph."""
    makers: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Value -> node that makes it, and its op."""
    parents: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Value -> computed values that it is made from."""
    constants: Mapping[str, Callable[[], np.ndarray]] = field(default_factory=dict)
    """Constants of the file but for scales and zero points, by its own names; read when called."""
    clamps: Mapping[str, str] = field(default_factory=dict)
    """Of an ONNX graph: a value that only a Relu or Clip reads -> what that makes of it."""
    fused: frozenset[str] = frozenset()
    """Of another tool's TFLite file: results of operators that clamp as well, which bear the name
    that the value has before the clamp."""
    target: str = ""
    plan: QuantPlan | None = None
    facts: Facts | None = None
    end_names: Mapping[str, str] = field(default_factory=dict)
    """Name of an input or output in the signature of the samples -> the file's own, where that
    differs."""
    scalings: Mapping[str, Scaling] = field(default_factory=dict)
    """By name of a value: what a build's transforms divided its channels by."""
    imported: Imported | None = None
    """An ONNX model as it was read."""

    @property
    def runs(self) -> bool:
        """Whether there is a model to run."""
        return self.format != "plan"

    @property
    def has_external_data(self) -> bool:
        """Whether an ONNX model keeps tensors in other files."""
        return self.imported is not None and len(self.imported.files) > 1
