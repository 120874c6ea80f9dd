"""``ai_edge_litert.tools.benchmark_litert_model``, the Python tool in newer wheels of LiteRT.

For a device with LiteRT's Python the agent is better; this runs LiteRT's newer interface, the
compiled model, with a wrapper script as the runner. Times are printed to 0.01 ms.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.targets.devices.device import Kernels
from qcompile.targets.devices.runners.runner import Runtime, Start, Summary, first_line

_MEDIAN: Final = re.compile(r"^Inference \(median\): +([0-9.]+) ms", re.MULTILINE)
_RUNS: Final = re.compile(r"^Inference \(avg\): +[0-9.]+ ms \((\d+) runs\)", re.MULTILINE)
_FIRST: Final = re.compile(r"^Warmup \(first\): +([0-9.]+) ms", re.MULTILINE)
_STEP: Final = 1e-5
_REFUSALS: Final = ("Failed to compile model", "Failed to create CompiledModel", "Failed to load")


@dataclass(frozen=True)
class LitertPython:
    """See ``Runner``."""

    name: str = "benchmark_litert_model.py"
    runtime: Runtime = "tflite"
    model_name: str = "model.tflite"
    libraries: tuple[str, ...] = ()

    def claims(self, file_name: str, help_text: str) -> bool:
        """By two options of its own."""
        return "--result_json" in help_text and "--dispatch_library_path" in help_text

    def argv(self, start: Start, help_text: str) -> list[str]:
        """All on the CPU, which is its default."""
        return [
            start.runner,
            f"--model={start.model}",
            f"--num_threads={start.threads}",
            f"--num_runs={start.runs}",
            f"--warmup_runs={start.warm_up}",
        ]

    def input_files(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> dict[str, bytes]:
        """None: it makes up numbers."""
        return {}

    def kernels(self, help_text: str) -> tuple[Kernels, ...]:
        """Those that it takes by itself."""
        return ("default",)

    def takes_inputs(self, help_text: str) -> bool:
        """It makes up numbers."""
        return False

    def gives_outputs(self, help_text: str) -> bool:
        """It does not."""
        return False

    def summary(self, printed: str, result: str, warm_up: int) -> Summary | None:
        """Its table on stdout."""
        median, runs, first = (p.search(printed) for p in (_MEDIAN, _RUNS, _FIRST))
        if median is None or runs is None:
            return None
        warm = None if first is None else float(first[1]) / 1e3
        return Summary(float(median[1]) / 1e3, "median", int(runs[1]), warm, step=_STEP)

    def refused(self, printed: str) -> str:
        """The last words of the exception of its loader."""
        return first_line(printed, _REFUSALS)
