"""The memory of a process of its own, which a larger process beside it does not change."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.targets.onnxruntime.footprint import peak_memory_mb
from tests.compiler.small import text_model

MB = 1 << 18
"""Elements of float32."""


def saved(folder: Path, megabytes: int) -> Path:
    path = folder / f"{megabytes}.onnx"
    weight = np.ones((megabytes, MB), np.float32)
    body = f'net (float["N", {megabytes}] x) => (float["N", {MB}] y) {{ y = MatMul (x, w) }}'
    onnx.save(text_model(body, {"w": weight}), path)
    return path


def test_a_larger_model_takes_as_much_more(tmp_path: Path) -> None:
    ballast = np.ones(200 * MB, np.float32)  # ours, not the child's
    small, large = (
        peak_memory_mb(saved(tmp_path, n), [{"x": np.ones((1, n), np.float32)}]) for n in (1, 81)
    )
    assert ballast.all()
    assert small is not None
    assert large is not None
    assert small < 200
    assert large - small > 70


@pytest.mark.parametrize("name", ["none.onnx", "1.onnx"])
def test_what_does_not_run_has_none(tmp_path: Path, name: str) -> None:
    saved(tmp_path, 1)
    assert peak_memory_mb(tmp_path / name, [{"other": np.ones((1, 1), np.float32)}]) is None
