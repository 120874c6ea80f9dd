"""Peak memory of a build does not depend on the number of samples."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler import small
from tests.house.imports import ROOT

SIDE = 224
SAMPLES = f"""
import os
import numpy as np

def load():
    for i in range(int(os.environ["COUNT"])):
        noise = np.random.default_rng(i).random((3, {SIDE}, {SIDE}), dtype=np.float32)
        yield {{"x": noise}}
"""
BUILD = """
import os

from qcompile.compiler.api import build

options = {"target": "ort-x86-avx2", "latency": False, "threads": 2}
result = build("model.onnx", data="samples:load", effort=os.environ["EFFORT"], **options)
print(result.report.measured.peak_memory_mb)
"""


def peak_mb(folder: Path, effort: str, count: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        cwd=folder,
        env={**os.environ, "EFFORT": effort, "COUNT": str(count), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@pytest.mark.parametrize(("effort", "few", "many"), [("fast", 192, 640), ("balanced", 320, 640)])
def test_as_much_for_many_samples_as_for_few(
    tmp_path: Path, effort: str, few: int, many: int
) -> None:
    """All 640 would take 385 MB, so that holding them, or a tenth of them, shows.

    Up to 128 samples are held to correct biases, in ``balanced`` 64 more to score on: the fewer
    ones are enough for that, a fifth being held out for accuracy.
    """
    model = small.text_model(
        f"""net (float["N", 3, {SIDE}, {SIDE}] x) => (float["N", 4] y) {{
            a = Conv <strides = [2, 2]> (x, w1)
            b = Relu (a)
            c = Conv <strides = [2, 2]> (b, w2)
            d = Relu (c)
            e = GlobalAveragePool (d)
            f = Flatten (e)
            y = Gemm <transB = 1> (f, w3)
        }}""",
        {
            "w1": small.weights(1, 8, 3, 3, 3),
            "w2": small.weights(2, 16, 8, 3, 3),
            "w3": small.weights(3, 4, 16),
        },
    )
    small.saved(model, tmp_path)
    (tmp_path / "samples.py").write_text(SAMPLES)
    less, more = (peak_mb(tmp_path, effort, count) for count in (few, many))
    assert more <= 1.10 * less, f"{less:.0f} MB for {few} samples, {more:.0f} MB for {many}"
