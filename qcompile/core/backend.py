"""What the compiler asks of a runtime's back end."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import onnx_ir as ir

from qcompile.core.accelerator import Kernels, Offload
from qcompile.core.ends import End
from qcompile.core.executor import Session
from qcompile.core.notes import Note
from qcompile.core.proof import Planned, Proof
from qcompile.core.signature import TensorSpec
from qcompile.core.target import Target

TARGET_KEY = "qcompile.target"
"""Metadata of an artefact: the name of the target it was made for."""

IO_LAYOUT_KEY = "qcompile.io_layout"
"""metadata_props key of a QDQ graph: the order of axes its ends are to have, ``nhwc`` or ``nchw``,
where the runtime's own order is another than ONNX's."""

SIMULATED_KEY = "qcompile.simulated"
"""metadata_props key of an artefact whose integers are computed with as floats: its scheme."""


@dataclass(frozen=True)
class Facts:
    """What a finished artefact says of itself."""

    nodes: int
    opset: int
    """0 for a format without opsets."""
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    ends: Mapping[str, End]
    """Inputs and outputs that differ from the float model's of the same name."""
    target: str = ""
    """Name of the target it was made for; empty when it does not say."""
    simulated: str = ""
    """The scheme that is only simulated in it; empty when it is not."""


@dataclass(frozen=True)
class Lowered:
    """A finished artefact and what there is to say about how it was written."""

    data: bytes
    notes: tuple[Note, ...] = ()


class Backend(Protocol):
    """Writes, reads, runs and proves artefacts of one runtime. It never sees a plan."""

    @property
    def suffix(self) -> str:
        """Of its files, as ``.onnx``."""

    @property
    def runs_float_file(self) -> bool:
        """Whether the runtime runs the user's own float model.

        If not, its float baseline is what the back end writes of the canonical float graph.
        """

    @property
    def elsewhere(self) -> str:
        """Whose arithmetic ``open`` uses on a machine that is not the target, for the report."""

    def lower(self, qdq: ir.Model, target: Target) -> Lowered:
        """Write a QDQ or float graph; the graph is not changed, equal graphs give equal bytes."""

    def facts(self, artefact: bytes | Path) -> Facts:
        """Read a finished artefact."""

    def open(
        self, artefact: bytes | Path, *, exact: bool = False, kernels: Kernels = "default"
    ) -> Session:
        """Load an artefact to run with one thread, its ends as they are.

        ``exact``: integer sums must not saturate, whatever the fastest kernels here do.
        ``kernels``: which of the runtime's kernels run it, where it has several.
        """

    def offload(self, artefact: bytes | Path, target: Target) -> Offload:
        """What of an artefact leaves the runtime's fast integer kernels; no NPU takes part."""

    def off_share(
        self, artefact: bytes | Path, feeds: Mapping[str, np.ndarray], target: Target
    ) -> float | None:
        """Share of the time that this takes here, 0 to 1; None where the runtime does not say."""

    def prove(self, artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
        """Look up what the runtime made of every planned node."""
