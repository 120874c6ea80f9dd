"""Runs TFLite files under TFLite Micro's interpreter (``core.executor.Session``)."""

import importlib.util
from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.backend import TfliteBackend
from qcompile.targets.tflite.reading import Graph, read_graph
from qcompile.targets.worker import Worker, WorkerDied, WorkerFailed

CHILD: Final = "qcompile.targets.tflm.child"
PACKAGE: Final = "tflite_micro"
EXTRA: Final = "pip install 'qcompile-edge[tflm]' (Linux on x86-64)"
CALL_SECONDS: Final = 120.0
"""Longest time of one inference: reference kernels on one core take seconds for a MobileNet."""


def is_installed() -> bool:
    """Whether TFLite Micro's interpreter is there."""
    return importlib.util.find_spec(PACKAGE) is not None


def runtime_name() -> str:
    """Name and version of the interpreter.

    Raises:
        QCompileError: MISSING_EXTRA.
    """
    if not is_installed():
        raise QCompileError(
            Code.MISSING_EXTRA,
            "running models under TFLite Micro needs its interpreter",
            hint=EXTRA,
        )
    return f"TFLite Micro {version(PACKAGE)}"


class MicroSession:
    """A model loaded by TFLite Micro, in a process of its own; runs wait for each other.

    Args:
        artefact: a TFLite file or its bytes.
        arena: bytes of the arena; None for more than enough.

    Raises:
        QCompileError: MISSING_EXTRA; RUNTIME_REFUSED with TFLite Micro's reason.
    """

    def __init__(self, artefact: bytes | Path, *, arena: int | None = None) -> None:
        self._name = runtime_name()
        data = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
        facts = TfliteBackend().facts(data)
        self._inputs, self._outputs = facts.inputs, facts.outputs
        self._worker = Worker(CHILD, timeout=CALL_SECONDS)
        try:
            self._worker.call("open", data, arena or roomy(read_graph(data)))
        except (WorkerDied, WorkerFailed) as error:
            why = last_words(self._worker.log()) or str(error)
            self._worker.close()
            raise QCompileError(
                Code.RUNTIME_REFUSED, f"{self._name} does not load the model: {why}"
            ) from error

    @cached_property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(spec.name for spec in self._inputs)

    @cached_property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(spec.name for spec in self._outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model once.

        Raises:
            QCompileError: RUNTIME_FAILED with TFLite Micro's own words.
        """
        missing = [name for name in self.input_names if name not in feeds]
        if missing:
            raise QCompileError(Code.RUNTIME_FAILED, f"input {missing[0]!r} is not given")
        given = [np.ascontiguousarray(feeds[name]) for name in self.input_names]
        try:
            results = self._worker.call("run", given, len(self._outputs))
        except (WorkerDied, WorkerFailed) as error:
            why = last_words(self._worker.log()) or str(error)
            raise QCompileError(
                Code.RUNTIME_FAILED, f"{self._name} failed while running the model: {why}"
            ) from error
        return list(results)

    def close(self) -> None:
        """End the process."""
        self._worker.close()


def roomy(graph: Graph) -> int:
    """Bytes of an arena in which a model surely fits: nothing shares its place with anything."""
    tensors = sum(t.nbytes + 512 for t in graph.tensors)  # 512: what is kept of a tensor
    return (1 << 20) + 2 * tensors


def last_words(log: str) -> str:
    """The first line that TFLite Micro printed of what went wrong; the rest follows from it."""
    lines = (" ".join(line.split()) for line in log.splitlines())
    return next((line for line in lines if line and not line.startswith("[Recording")), "")
