"""Runs ONNX files on QNN's emulation of the HTP (``core.executor.Session``)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import onnx

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.worker import Worker, WorkerDied, WorkerFailed

CHILD: Final = "qcompile.targets.qnn.child"
EP: Final = "QNNExecutionProvider"
PACKAGE: Final = "onnxruntime_qnn"
CALL_SECONDS: Final = 1800.0
"""Longest time of one compilation or inference: large models take minutes to emulate."""

_REFUSED: Final = re.compile(
    r"Validation FAILED for \d+ nodes? in OrtNodeUnit \((?P<op>\w+)\) :\n"
    r"(?P<nodes>(?:\tOperator type: [^\n]*\n)+)"
    r"\tREASON : (?P<reason>[^\n]*)"
)
_NODE: Final = re.compile(r"Operator type: \S+ Node name: (?P<name>.*) Node index: \d+")


@dataclass(frozen=True)
class Placed:
    """A node and who runs it."""

    group: int
    """Number of the piece that it is part of."""
    provider: str
    name: str
    op: str

    @property
    def on(self) -> bool:
        """Whether QNN does."""
        return self.provider == EP


def is_installed() -> bool:
    """Whether QNN's plugin is there."""
    return find_spec(PACKAGE) is not None


def runtime_name() -> str:
    """Name and version of the plugin.

    Raises:
        QCompileError: MISSING_EXTRA.
    """
    if not is_installed():
        raise QCompileError(
            Code.MISSING_EXTRA,
            "running models under QNN needs its plugin for ONNX Runtime",
            hint="pip install 'qcompile-edge[qnn]'",
        )
    return f"onnxruntime-qnn {version('onnxruntime-qnn')}"


class QnnSession:
    """A model loaded by QNN, in a process of its own; runs wait for each other.

    Args:
        artefact: an ONNX file or its bytes, its shapes fixed.
        options: of the provider, in QNN's words.
        fallback: let the processor run what QNN does not take; without it such a model is refused.
        explain: have QNN say why it does not take a node.
        context: where to write the compiled context.

    Raises:
        QCompileError: MISSING_EXTRA; ACCELERATOR_REFUSED with QNN's own words.
    """

    def __init__(
        self,
        artefact: bytes | Path,
        options: Mapping[str, str] | None = None,
        *,
        fallback: bool = False,
        explain: bool = False,
        context: Path | None = None,
    ) -> None:
        self.name = runtime_name()
        data = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
        graph = onnx.load_from_string(data).graph
        self._inputs = [value.name for value in graph.input]
        self._outputs = [value.name for value in graph.output]
        self._worker = Worker(CHILD, timeout=CALL_SECONDS)
        asked = (
            data,
            dict(options or {}),
            fallback,
            explain,
            "" if context is None else str(context),
        )
        try:
            placed = self._worker.call("open", *asked)
        except (WorkerDied, WorkerFailed) as error:
            self._worker.close()
            raise QCompileError(
                Code.ACCELERATOR_REFUSED, f"{self.name} does not take the model: {_reason(error)}"
            ) from error
        self.placed: Sequence[Placed] = tuple(Placed(*entry) for entry in placed)
        self.reasons: Mapping[str, str] = reasons(self._worker.log())

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(self._inputs)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(self._outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model once.

        Raises:
            QCompileError: RUNTIME_FAILED with ONNX Runtime's own message.
        """
        try:
            results = self._worker.call("run", {n: feeds[n] for n in self._inputs if n in feeds})
        except (WorkerDied, WorkerFailed) as error:
            raise QCompileError(
                Code.RUNTIME_FAILED, f"{self.name} failed while running the model: {_reason(error)}"
            ) from error
        return list(results)

    def close(self) -> None:
        """End the process."""
        self._worker.close()


def reasons(log: str) -> dict[str, str]:
    """Name of a node -> why QNN did not take it, the last of what it said; by its verbose log."""
    found: dict[str, str] = {}
    for refusal in _REFUSED.finditer(log):
        for node in _NODE.finditer(refusal["nodes"]):
            found[node["name"]] = " ".join(refusal["reason"].split())
    return found


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text.removeprefix("[ONNXRuntimeError] : ")
