"""Integer activations in a language model with outliers: static, a scale a token, few bits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from tests.decoding import perplexity
from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import FLOAT_PERPLEXITY, float_compute, optimized_ops, session

pytestmark = [pytest.mark.models, pytest.mark.slow]


def as_written(path: Path) -> ort.InferenceSession:
    """A simulation, node by node: ONNX Runtime's kernels would quantize once more."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 2
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def test_static_scales_after_smoothing(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    text_data: Path,
    tmp_path: Path,
) -> None:
    """One scale a tensor; ONNX Runtime's own quantize_static has 26.03 there."""
    model = models_dir / "llm" / "lm_outlier.onnx"
    built = builder(model, text_data, effort="balanced")
    after = perplexity(session(built.path), text_rows)
    figures.add("lm_outlier.onnx, w8a8", "perplexity", FLOAT_PERPLEXITY, after, "<= 22.15")
    assert float_compute(optimized_ops(built.path, tmp_path)) == {}
    assert after <= 22.15


def test_a_scale_a_token(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    text_data: Path,
    tmp_path: Path,
) -> None:
    """The kernels are those of static scales; the search needs the samples for smoothing alone."""
    model = models_dir / "llm" / "lm_outlier.onnx"
    options = ("--scheme", "w8a8-dynamic", "--granularity", "token")
    built = builder(model, text_data, effort="balanced", options=options)
    after = perplexity(session(built.path), text_rows)
    figures.add("lm_outlier.onnx, w8a8 by token", "perplexity", FLOAT_PERPLEXITY, after, "<= 22.20")
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
    text_rows: np.ndarray,
    text_data: Path,
) -> None:
    """Weights in groups of 128, a scale a token, caches of 4 bits; over 200 without rotation."""
    model = models_dir / "llm" / "lm_outlier_with_past.onnx"
    options = ("--scheme", scheme, "--granularity", "group:128", "--simulate")
    built = builder(model, text_data, effort="balanced", options=options)
    assert built.report["simulated"] == scheme
    after = perplexity(as_written(built.path), text_rows)
    figures.add(
        f"lm_outlier.onnx, {scheme}", "perplexity", FLOAT_PERPLEXITY, after, f"<= {most:.2f}"
    )
    assert after <= most
