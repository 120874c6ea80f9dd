"""LSTM and GRU on TFLite: written out, integer as the rest, or refused with the node's name."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

pytestmark = pytest.mark.litert
GATES = {"LSTM": 4, "GRU": 3}
HIDDEN, STEPS = 12, 6


def saved(op: str, folder: Path, steps: int = STEPS) -> Path:
    rows = GATES[op] * HIDDEN
    body = f"""net (float["N", {steps}, 8] x) => (float["N", 3] y) {{
        t = Transpose <perm = [1, 0, 2]> (x)
        a, h = {op} <hidden_size = {HIDDEN}> (t, w, r, b)
        s = Squeeze (h, first)
        y = MatMul (s, d)
    }}"""
    constants = {
        "w": small.weights(1, 1, rows, 8),
        "r": small.weights(2, 1, rows, HIDDEN),
        "b": small.weights(3, 1, 2 * rows) * np.float32(4),
        "d": small.weights(4, HIDDEN, 3),
        "first": np.array([0], np.int64),
    }
    return small.saved(small.text_model(body, constants), folder, f"{op}{steps}.onnx")


def walks(count: int) -> np.ndarray:
    noise = np.random.default_rng(8).normal(size=(count, STEPS, 8))
    return np.cumsum(noise, axis=1).astype(np.float32)


@pytest.mark.parametrize("op", GATES)
def test_all_of_it_is_integer(op: str, tmp_path: Path) -> None:
    result = small.built(
        saved(op, tmp_path), target="tflite-x86", data={"x": walks(64)}, effort="fast"
    )
    coverage = result.report.coverage
    assert coverage.integer == coverage.total > 5 * STEPS
    (quality,) = result.report.accuracy.outputs if result.report.accuracy else ()
    assert quality.sqnr_db is not None and quality.sqnr_db > 22


@pytest.mark.parametrize("op", GATES)
def test_in_floats_it_is_the_same_function(op: str, tmp_path: Path) -> None:
    data = {"x": walks(16)}
    result = small.built(saved(op, tmp_path), target="tflite-x86", scheme="float", data=data)
    (quality,) = result.report.accuracy.outputs if result.report.accuracy else ()
    assert quality.sqnr_db is not None and quality.sqnr_db > 110


@pytest.mark.parametrize("op", GATES)
def test_a_long_sequence_is_refused_by_name(op: str, tmp_path: Path) -> None:
    model = saved(op, tmp_path, steps=65)
    with pytest.raises(QCompileError) as caught:
        small.built(model, target="tflite-x86", scheme="float")
    assert caught.value.code is Code.SCHEME_UNSUPPORTED
    assert caught.value.node is not None
    assert "up to 64 steps" in caught.value.message


def test_onnx_runtime_keeps_its_own_operator(tmp_path: Path) -> None:
    result = small.built(saved("LSTM", tmp_path), data={"x": walks(16)}, effort="fast")
    assert "LSTM" in {node.op_type for node in result.qdq.graph}
