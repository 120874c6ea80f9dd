"""Integer activations in a language model with outliers: static, a scale a token, few bits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import float_compute, optimized_ops, session

pytestmark = [pytest.mark.models, pytest.mark.slow]

ROWS = 32
FLOAT = 22.037
"""Perplexity of the float model on those rows."""
CALIBRATION = 64
"""Rows of calibration.npz: more of them change the second digit behind the point."""
TYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int8)": np.int8}


def perplexity(model: ort.InferenceSession, rows: np.ndarray) -> float:
    """exp of the mean cross-entropy of the next token; caches are empty where there are some."""
    ends = {end.name: end for end in model.get_inputs()}
    total = 0.0
    for row in rows.astype(np.int64):
        length = len(row) - 1
        feed: dict[str, np.ndarray] = {"input_ids": row[None, :-1]}
        if "attention_mask" in ends:
            feed["attention_mask"] = np.ones((1, length), np.int64)
        if "position_ids" in ends:
            feed["position_ids"] = np.arange(length, dtype=np.int64)[None]
        for name, end in ends.items():
            if name.startswith("past"):
                feed[name] = np.zeros((1, end.shape[1], 0, end.shape[3]), TYPES[end.type])
        logits = model.run(["logits"], feed)[0][0].astype(np.float64)
        logits -= logits.max(1, keepdims=True)
        chosen = logits[np.arange(length), row[1:]]
        total += float(np.mean(np.log(np.exp(logits).sum(1)) - chosen))
    return float(np.exp(total / len(rows)))


def as_written(path: Path) -> ort.InferenceSession:
    """A simulation, node by node: ONNX Runtime's kernels would quantize once more."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture
def rows(models_dir: Path) -> np.ndarray:
    found: np.ndarray = np.load(models_dir / "llm" / "evaluation.npz")["input_ids"][:ROWS]
    return found


@pytest.fixture
def data(models_dir: Path, tmp_path: Path) -> Path:
    ids = np.load(models_dir / "llm" / "calibration.npz")["input_ids"][:CALIBRATION]
    path = tmp_path / "calibration.npz"
    np.savez(path, input_ids=ids.astype(np.int64))
    return path


def test_static_scales_after_smoothing(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    rows: np.ndarray,
    data: Path,
    tmp_path: Path,
) -> None:
    """One scale a tensor; ONNX Runtime's own quantize_static has 26.03 there."""
    model = models_dir / "llm" / "lm_outlier.onnx"
    built = builder(model, data, effort="balanced")
    after = perplexity(session(built.path), rows)
    figures.add("lm_outlier.onnx, w8a8", "perplexity", FLOAT, after, "<= 22.15")
    assert float_compute(optimized_ops(built.path, tmp_path)) == {}
    assert after <= 22.15


def test_a_scale_a_token(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    rows: np.ndarray,
    data: Path,
    tmp_path: Path,
) -> None:
    """The kernels are those of static scales; the search needs the samples for smoothing alone."""
    model = models_dir / "llm" / "lm_outlier.onnx"
    options = ("--scheme", "w8a8-dynamic", "--granularity", "token")
    built = builder(model, data, effort="balanced", options=options)
    after = perplexity(session(built.path), rows)
    figures.add("lm_outlier.onnx, w8a8 by token", "perplexity", FLOAT, after, "<= 22.20")
    ops = optimized_ops(built.path, tmp_path)
    assert ops["MatMulIntegerToFloat"] == 22  # every layer with a weight, and the head
    assert ops["DynamicQuantizeLinear"] + ops["MatMulInteger"] == 0
    assert after <= 22.2


@pytest.mark.parametrize(
    ("scheme", "most"), [("w4a8-dynamic+kv4", 22.3), ("w4a4-dynamic+kv4", 22.9)]
)
def test_few_bits_simulated(
    scheme: str,
    most: float,
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    rows: np.ndarray,
    data: Path,
) -> None:
    """Weights in groups of 128, a scale a token, caches of 4 bits; over 200 without rotation."""
    model = models_dir / "llm" / "lm_outlier_with_past.onnx"
    options = ("--scheme", scheme, "--granularity", "group:128", "--simulate")
    built = builder(model, data, effort="balanced", options=options)
    assert built.report["simulated"] == scheme
    after = perplexity(as_written(built.path), rows)
    figures.add(f"lm_outlier.onnx, {scheme}", "perplexity", FLOAT, after, f"<= {most:.2f}")
    assert after <= most
