"""The small Llama: loads, runs with any sequence length, and what stays float is named."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.decoding import perplexity
from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import float_compute, optimized_ops, session

pytestmark = [pytest.mark.models, pytest.mark.slow]

ROWS = 64


def test_language_model(
    models_dir: Path, builder: Callable[..., Built], figures: Figures, tmp_path: Path
) -> None:
    model = models_dir / "llm" / "lm.onnx"
    rows = np.load(models_dir / "llm" / "evaluation.npz")["input_ids"][:ROWS]
    before = perplexity(session(model), rows)
    assert before == pytest.approx(21.904, abs=0.002)

    calibration = np.load(models_dir / "llm" / "calibration.npz")["input_ids"]
    data = tmp_path / "calibration.npz"
    np.savez(data, input_ids=calibration.astype(np.int64))
    judged = tmp_path / "test.npz"
    np.savez(judged, input_ids=rows[:16, :-1].astype(np.int64))
    built = builder(model, data, evaluation=judged)
    loaded = session(built.path)
    after = perplexity(loaded, rows)
    for length in (1, 7, 300):  # the sequence length stays open
        ids = np.arange(2 * length, dtype=np.int64).reshape(2, length) % 2048
        logits = loaded.run(None, {"input_ids": ids})[0]
        assert logits.shape == (2, length, 2048)
        assert np.isfinite(logits).all()
    ops = optimized_ops(built.path, tmp_path)
    float_left = float_compute(ops)
    figures.add("lm.onnx", "perplexity", before, after, "<= 1.015 x")
    assert after <= 1.015 * before
    assert float_left == {}
    assert ops["QLinearMatMul"] + ops["MatMulIntegerToFloat"] == 28
    named = {node["op"] for node in built.report["coverage"]["float_nodes"]}
    assert {"ReduceMean", "Pow", "Cos", "Sin", "Softmax"} <= named
