"""Peak memory of a build does not depend on the number of samples."""

import os
import subprocess
import sys
from pathlib import Path

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
from qcompile.compiler.api import build

result = build("model.onnx", target="ort-x86-avx2", data="samples:load", latency=False, threads=2)
print(result.report.measured.peak_memory_mb)
"""


def peak_mb(folder: Path, count: int) -> float:
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        cwd=folder,
        env={**os.environ, "COUNT": str(count), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def test_as_much_for_512_samples_as_for_32(tmp_path: Path) -> None:
    """All 512 would take 300 MB, so that holding them, or a tenth of them, shows."""
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
    few, many = (peak_mb(tmp_path, count) for count in (32, 512))
    assert many <= 1.10 * few, f"{few:.0f} MB for 32 samples, {many:.0f} MB for 512"
