"""Peak memory of a process that loads a model and runs it: a process of its own, nothing of ours.

The child imports ONNX Runtime and numpy alone; what it prints is the peak that the system counted.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from qcompile.core.executor import Feeds
from qcompile.core.scratch import scratch_folder

SECONDS: Final = 120.0
"""After which a child is given up."""
_CHILD: Final = """
import platform, resource, sys
import numpy as np
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
options.log_severity_level = 4
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
for path in sys.argv[2:]:
    with np.load(path) as arrays:
        session.run(None, dict(arrays))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
megabytes = peak / (1e6 if platform.system() == "Darwin" else 1e3)
try:  # Linux counts what our own process had before the child became another program
    with open("/proc/self/status") as file:
        megabytes = next(int(x.split()[1]) / 1e3 for x in file if x.startswith("VmHWM"))
except (OSError, StopIteration):
    pass
print(megabytes)
"""


def peak_memory_mb(model: Path, runs: Sequence[Feeds]) -> float | None:
    """Peak resident memory in MB of a process that runs a model; None where it cannot be told.

    Args:
        model: an ONNX file.
        runs: what it is fed, one run after the other.
    """
    with scratch_folder() as folder:
        paths = [folder / f"{i}.npz" for i in range(len(runs))]
        for path, feeds in zip(paths, runs, strict=True):
            np.savez(path, **feeds)  # type: ignore[arg-type]
        command = [sys.executable, "-c", _CHILD, str(model.absolute()), *map(str, paths)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=True)
            return float(done.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
