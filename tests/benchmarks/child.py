"""One job in a process of its own, which notes its wall time and peak memory.

python -m tests.benchmarks.child NOTE.json qcompile ARGUMENTS...
python -m tests.benchmarks.child NOTE.json peer NAME MODEL DATA OUTPUT
"""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START = time.perf_counter()


def qcompile(*arguments: str) -> int:
    """The command line of qcompile."""
    from qcompile.compiler.cli.main import run

    return run(list(arguments))


def peer(name: str, model: str, data: str, output: str) -> int:
    """ONNX Runtime's own ``quantize_static``, as its documentation tells to use it.

    Its ``quant_pre_process`` crashes on some models, so the float model is first written by ONNX
    Runtime at level BASIC, which folds batch normalization in its Mul and Add form too.
    """
    import numpy as np
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    from tests.models import imagenet

    options = {
        "ORT U8S8 per-channel": {"weight_type": QuantType.QInt8, "per_channel": True},
        "ORT U8S8 per-channel, reduce_range": {
            "weight_type": QuantType.QInt8,
            "per_channel": True,
            "reduce_range": True,
        },
        "ORT U8U8 per-channel": {"weight_type": QuantType.QUInt8, "per_channel": True},
        "ORT U8U8 per-tensor": {"weight_type": QuantType.QUInt8, "per_channel": False},
    }[name]

    class Pictures(CalibrationDataReader):  # type: ignore[misc]
        """One picture a call, loaded when asked for."""

        def __init__(self) -> None:
            self.paths: Iterator[Path] = iter(sorted(Path(data).iterdir()))

        def get_next(self) -> dict[str, np.ndarray] | None:
            path = next(self.paths, None)
            return None if path is None else {"input": imagenet.load([path])}

    folded = Path(output).with_suffix(".folded.onnx")
    session_options = ort.SessionOptions()
    session_options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    session_options.optimized_model_filepath = str(folded)
    ort.InferenceSession(model, session_options, providers=["CPUExecutionProvider"])
    logging.disable(logging.WARNING)
    quantize_static(folded, output, Pictures(), activation_type=QuantType.QUInt8, **options)
    return 0


def peak_mb() -> float:
    """Largest resident size of this process so far, in 10^6 bytes."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 / 1e6 if found else float("nan")


def main() -> int:
    """Do the job, write the note."""
    note, job, *arguments = sys.argv[1:]
    code = {"qcompile": qcompile, "peer": peer}[job](*arguments)
    cost = {"seconds": time.perf_counter() - START, "peak_mb": peak_mb()}
    Path(note).write_text(json.dumps(cost))
    return code


if __name__ == "__main__":
    sys.exit(main())
