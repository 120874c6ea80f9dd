"""ONNX Runtime's ``onnxruntime_perf_test``: options and output of its versions since 2019.

It takes inputs from ``test_data_set_0`` beside the model and writes a row a run into a result file
(``name,seconds,peak,cpu,number``; newer ones ``name,submitted,seconds,peak,cpu,number``), so its
medians are of single runs. Where that file cannot be read, ``P50 Latency`` of its output or
``Average inference time cost`` is taken. It cannot write outputs.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.targets.devices.device import Kernels
from qcompile.targets.devices.runners.runner import Runtime, Start, Summary, first_line

_NUMBER: Final = r"([0-9][0-9.]*(?:e[+-]?\d+)?)"
_ROW: Final = re.compile(rf",{_NUMBER},\d+,-?\d+,(\d+)$", re.MULTILINE)
_P50: Final = re.compile(rf"^P50 Latency(?: is|:) ?{_NUMBER} ?s", re.MULTILINE)
_MEAN: Final = re.compile(
    rf"^Average (?:inference )?time cost(?: total)?: ?{_NUMBER} ms", re.MULTILINE
)
_RUNS: Final = re.compile(r"^Total (?:inference requests|iterations): ?(\d+)", re.MULTILINE)
_FIRST: Final = re.compile(rf"^First inference time cost: ?{_NUMBER} ms", re.MULTILINE)
_REFUSALS: Final = (
    "Load model from",
    "Failed to load model",
    "NOT_IMPLEMENTED",
    "Unsupported model IR version",
    "is not a registered function/op",
    "This is an invalid model",
)


@dataclass(frozen=True)
class PerfTest:
    """See ``Runner``."""

    name: str = "onnxruntime_perf_test"
    runtime: Runtime = "onnxruntime"
    model_name: str = "model.onnx"
    libraries: tuple[str, ...] = ("libonnxruntime*.so*",)

    def claims(self, file_name: str, help_text: str) -> bool:
        """By the line of usage that every version prints."""
        return "perf_test [options...]" in help_text or file_name.startswith("onnxruntime_perf")

    def argv(self, start: Start, help_text: str) -> list[str]:
        """The CPU, as many runs as asked for after one that is not in the result."""
        level = ["-o", "0"] if start.kernels == "builtin" else []
        runs = str(start.runs + start.warm_up)
        fixed = ["-e", "cpu", "-m", "times", "-r", runs, "-x", str(start.threads), "-s"]
        return [start.runner, *fixed, *level, start.model, start.result]

    def input_files(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> dict[str, bytes]:
        """TensorProto files; it finds them by their place and takes their names from inside."""
        from onnx import numpy_helper  # heavy: only who runs a model loads it

        return {
            f"test_data_set_0/input_{n}.pb": numpy_helper.from_array(a, name).SerializeToString()
            for n, (name, a) in enumerate(zip(names, arrays, strict=True))
        }

    def kernels(self, help_text: str) -> tuple[Kernels, ...]:
        """``builtin`` is without optimization."""
        return ("default", "builtin")

    def takes_inputs(self, help_text: str) -> bool:
        """Always."""
        return True

    def gives_outputs(self, help_text: str) -> bool:
        """It does not."""
        return False

    def summary(self, printed: str, result: str, warm_up: int) -> Summary | None:
        """The median of the rows of the result file, else what the output says."""
        first = _FIRST.search(printed)
        warm = None if first is None else float(first[1]) / 1e3
        rows = [float(row[1]) for row in _ROW.finditer(result)][warm_up:]
        if rows:
            return Summary(float(np.median(rows)), "median", len(rows), warm)
        mean, middle, runs = (p.search(printed) for p in (_MEAN, _P50, _RUNS))
        if mean is None or runs is None:
            return None
        if middle is not None:
            return Summary(float(middle[1]), "median", int(runs[1]), warm)
        return Summary(float(mean[1]) / 1e3, "mean", int(runs[1]), warm)

    def refused(self, printed: str) -> str:
        """What ONNX Runtime throws when a session is made."""
        return first_line(printed, _REFUSALS)
