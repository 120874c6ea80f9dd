"""AVX2 kernels, emulated, say the same to the last bit as arithmetic that cannot saturate."""

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.models import faces, imagenet
from tests.models.building import Built

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.emulated]

RUN = """
import sys
import numpy as np, onnxruntime as ort
model, feeds, out = sys.argv[1:]
x = dict(np.load(feeds))
for exact in ("0", "1"):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", exact)
    found = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]).run(None, x)
    np.savez(out + exact + ".npz", *found)
"""


@pytest.fixture(scope="module")
def emulator() -> str:
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("not x86-64: no AVX2 kernels here")
    found = shutil.which("qemu-x86_64")
    if found is None:
        pytest.skip("no qemu-x86_64: install qemu-user (Debian: apt-get install qemu-user)")
    return found


def on_avx2(emulator: str, model: Path, feeds: dict[str, np.ndarray], folder: Path) -> list[float]:
    """Largest difference of each output between AVX2's fast sums and exact ones."""
    np.savez(folder / "feeds.npz", **feeds)
    command = [emulator, "-cpu", "Haswell", sys.executable, "-c", RUN]
    command += [str(model), str(folder / "feeds.npz"), str(folder / "out")]
    done = subprocess.run(
        command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    fast, exact = (np.load(folder / f"out{e}.npz") for e in "01")
    return [float(np.abs(fast[name] - exact[name]).max()) for name in exact.files]


def test_mobilenet(
    emulator: str, models_dir: Path, builder: Callable[..., Built], tmp_path: Path
) -> None:
    data = imagenet.link(imagenet.calibration(models_dir)[:32], tmp_path / "calibration")
    model = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    built = builder(model, data, config=imagenet.CONFIG)
    x = imagenet.load(imagenet.evaluation(models_dir)[:4])
    # +1 and -1 everywhere in blocks: the hottest input that the range allows
    x = np.concatenate([x, np.ones_like(x[:1]), -np.ones_like(x[:1])])
    assert on_avx2(emulator, built.path, {"input": x}, tmp_path) == [0.0]


def test_resnet8(
    emulator: str, models_dir: Path, builder: Callable[..., Built], tmp_path: Path
) -> None:
    folder = models_dir / "mlperf_tiny"
    calibration = np.load(folder / "cifar10_calibration.npz")["x"].astype(np.float32)
    np.savez(tmp_path / "calibration.npz", input_1=calibration)
    built = builder(folder / "resnet8_cifar10.onnx", tmp_path / "calibration.npz")
    x = np.load(folder / "cifar10_test.npz")["x"][:32].astype(np.float32)
    x = np.concatenate([x, np.full_like(x[:1], 255)])
    assert on_avx2(emulator, built.path, {"input_1": x}, tmp_path) == [0.0]


def test_face(
    emulator: str, models_dir: Path, builder: Callable[..., Built], tmp_path: Path
) -> None:
    pictures = sorted((models_dir / "face" / "pictures").glob("*.jpg"))
    np.savez(tmp_path / "calibration.npz", input=np.concatenate([faces.load(p) for p in pictures]))
    model = models_dir / "face" / "version-RFB-320_simplified.onnx"
    built = builder(model, tmp_path / "calibration.npz")
    feeds = {"input": faces.load(pictures[0])}
    assert on_avx2(emulator, built.path, feeds, tmp_path) == [0.0, 0.0]
