"""The share of time that float nodes take, from ONNX Runtime's own profile."""

import tempfile
from pathlib import Path

import numpy as np
import pytest

from qcompile.targets.onnxruntime.profile import off_share
from tests.targets.onnxruntime.test_prove import AVX2, CONV, artefact, qdq

FEEDS = {"x": np.ones((1, 3, 64, 64), np.float32)}
SHAPE = "float[1, 3, 64, 64]"


def test_a_graph_of_integer_kernels_spends_nothing_off() -> None:
    made = artefact(CONV + qdq("c", "y").replace("y_d", "y"), SHAPE)
    assert off_share(made, FEEDS, AVX2) == 0


def test_an_island_takes_its_share_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    floats = "".join(f"t{i} = Tan (t{i - 1})\n" for i in range(1, 9)).replace("t0", "c_d", 1)
    body = (
        CONV + qdq("c", "c") + floats + qdq("t8", "t") + "y = MaxPool <kernel_shape = [2, 2]> (t_d)"
    )
    share = off_share(artefact(body, SHAPE), FEEDS, AVX2)
    assert share is not None
    assert 0.3 < share < 1
    assert list(tmp_path.iterdir()) == []
