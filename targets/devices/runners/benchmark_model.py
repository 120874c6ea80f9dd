"""LiteRT's and TFLite's ``benchmark_model``: options and output of its versions since 2018.

Also ``benchmark_litert_model`` and the variants that are built of the same source. It prints a line
of statistics for its warm-up and one for its runs (``count=50 first=.. curr=.. avg=..``, in newer
versions with ``median=``), then the averages (``Inference timings in us: Init: .., First inference:
.., Warmup (avg): .., Inference (avg): ..``; before 2020 ``Average inference timings in us: Warmup:
.., Init: .., no stats: ..``), each behind ``INFO:``, a tag of logcat, or nothing. Single runs are
not told. ``--enable_op_profiling`` costs time and is left off.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.targets.devices.device import Kernels
from qcompile.targets.devices.runners.runner import Runtime, Start, Summary, first_line

_NUMBER: Final = r"([0-9][0-9.]*(?:e[+-]?\d+)?)"
_TAG: Final = r"(?:INFO: |I tflite *: |Timings \(microseconds\): )?"
_COUNT: Final = re.compile(rf"^{_TAG}(count=[1-9].*)$", re.MULTILINE)
_FIELD: Final = re.compile(rf"(\w+)={_NUMBER}")
_NEW: Final = re.compile(
    rf"Inference timings in us: Init: \S+, First inference: {_NUMBER},"
    rf" .*Inference \(avg\): {_NUMBER}"
)
_OLD: Final = re.compile(
    rf"Average inference timings in us: Warmup: .*(?:no stats|Inference): {_NUMBER}"
)
_OPTION: Final = re.compile(r"--(\w+)=")
_ALWAYS: Final = frozenset({"graph", "num_threads", "num_runs", "warmup_runs"})
"""Options of the first version; one whose help cannot be read gets these."""
_FINE_MEDIAN: Final = 100
"""Microseconds from which on a median in whole ones is known to 1 %."""
_REFUSALS: Final = (
    "Failed to load model",
    "Failed to mmap model",
    "Encountered unresolved custom op",
    "Didn't find op for builtin opcode",
    "Failed to initialize the interpreter",
    "Failed to construct interpreter",
    "Failed to allocate tensors",
    "Disallowed CPU fallback detected",
)


@dataclass(frozen=True)
class BenchmarkModel:
    """See ``Runner``."""

    name: str = "benchmark_model"
    runtime: Runtime = "tflite"
    model_name: str = "model.tflite"
    libraries: tuple[str, ...] = ("libLiteRt*.so", "libtensorflowlite*.so")

    def claims(self, file_name: str, help_text: str) -> bool:
        """By its options; the oldest versions print no help, but have its name."""
        return "--graph=" in help_text or file_name.startswith("benchmark_")

    def argv(self, start: Start, help_text: str) -> list[str]:
        """Exactly the runs that are asked for: the least times that it has defaults for are 0."""
        names = [f"input{number}" for number in range(len(start.inputs))]  # any will do
        shapes = [",".join(map(str, given.shape)) for given in start.inputs]
        files = [f"{n}:{given.path}" for n, given in zip(names, start.inputs, strict=True)]
        wanted = {
            "graph": start.model,
            "num_threads": str(start.threads),
            "num_runs": str(start.runs),
            "warmup_runs": str(start.warm_up),
            "min_secs": "0",
            "warmup_min_secs": "0",
            "use_xnnpack": "true" if start.kernels == "default" else "false",
            "input_layer": ",".join(names),
            "input_layer_shape": ":".join(shapes),
            "input_layer_value_files": ",".join(files),
            "output_filepath": start.output,
        }
        known = _options(help_text)
        return [start.runner] + [
            f"--{key}={value}" for key, value in wanted.items() if value and key in known
        ]

    def input_files(self, names: Sequence[str], arrays: Sequence[np.ndarray]) -> dict[str, bytes]:
        """Plain bytes, little endian, in C order."""
        return {
            f"input{number}": array.astype(array.dtype.newbyteorder("<")).tobytes()
            for number, array in enumerate(arrays)
        }

    def kernels(self, help_text: str) -> tuple[Kernels, ...]:
        """Before XNNPACK its own were the default ones."""
        return ("default", "builtin")

    def takes_inputs(self, help_text: str) -> bool:
        """Newer versions do, by an option."""
        return "input_layer_value_files" in _options(help_text)

    def gives_outputs(self, help_text: str) -> bool:
        """Newer versions, by an option: all outputs, one after the other."""
        return {"output_filepath", "input_layer_value_files"} <= _options(help_text)

    def summary(self, printed: str, result: str, warm_up: int) -> Summary | None:
        """The median where its version tells one and a microsecond is little of it; else the mean,
        which alone has fractions of one.
        """
        new, old = _NEW.search(printed), _OLD.search(printed)
        end = new or old
        if end is None:
            return None
        mean = float(end[2] if new else end[1])
        first = float(new[1]) / 1e6 if new else None
        rows = [dict(_FIELD.findall(row)) for row in _COUNT.findall(printed[: end.start()])]
        last = rows[-1] if rows else {}
        runs = int(float(last.get("count", 0)))
        middle = last.get("median") or ("" if "avg" in last else last.get("curr"))  # all the same
        if middle and float(middle) >= _FINE_MEDIAN:
            return Summary(float(middle) / 1e6, "median", runs, first)
        return Summary(mean / 1e6, "mean", runs, first)

    def refused(self, printed: str) -> str:
        """Its messages are those of the interpreter's loader."""
        return first_line(printed, _REFUSALS)


def _options(help_text: str) -> frozenset[str]:
    return frozenset(_OPTION.findall(help_text)) | _ALWAYS
