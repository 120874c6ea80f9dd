"""The QNN back end as the compiler sees it: ONNX files, written and run as ONNX Runtime's are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompile.core.accelerator import Kernels, Offload
from qcompile.core.backend import Facts, Lowered
from qcompile.core.proof import Planned, Proof
from qcompile.core.target import Target
from qcompile.targets.onnxruntime.backend import OrtBackend
from qcompile.targets.onnxruntime.executor import OrtSession
from qcompile.targets.qnn.prove import prove
from qcompile.targets.qnn.tool import Qnn


@dataclass(frozen=True)
class QnnBackend:
    """See ``core.backend.Backend``."""

    suffix: str = ".onnx"
    runs_float_file: bool = True
    elsewhere: str = "the QDQ graph's exact integers; QNN's own differ by a few steps at the logits"
    _ort: OrtBackend = field(default_factory=OrtBackend)

    def lower(self, qdq: ir.Model, target: Target) -> Lowered:
        """Write a QDQ file."""
        return self._ort.lower(qdq, target)

    def facts(self, artefact: bytes | Path) -> Facts:
        """Read an ONNX file of ours."""
        return self._ort.facts(artefact)

    def open(
        self, artefact: bytes | Path, *, exact: bool = False, kernels: Kernels = "default"
    ) -> OrtSession:
        """Load it on this machine's processor, where an inference takes no seconds."""
        return self._ort.open(artefact, exact=exact, kernels=kernels)

    def offload(self, artefact: bytes | Path, target: Target) -> Offload:
        """Tell what QNN leaves to the processor."""
        raw = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
        return Qnn().accelerate(raw, target).offload

    def off_share(
        self, artefact: bytes | Path, feeds: Mapping[str, np.ndarray], target: Target
    ) -> float | None:
        """An emulation's times mean nothing."""
        return None

    def prove(self, artefact: bytes | Path, planned: Sequence[Planned], target: Target) -> Proof:
        """Look up the planned nodes in the file."""
        return prove(artefact, planned, target)
