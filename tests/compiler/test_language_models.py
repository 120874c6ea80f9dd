"""A decoder the whole way: token rows in, perplexity, speed and cache bytes out, gates held."""

from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.core.errors import Code, QCompileError
from tests.compiler.genai.helpers import model_folder
from tests.compiler.tiny_decoder import HEADS, SIZE, VOCABULARY

ROWS = np.random.default_rng(3).integers(0, VOCABULARY, (12, 17)).astype(np.uint16)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("decoder"))


def test_a_build_judges_the_next_token(model: Path, tmp_path: Path) -> None:
    report = qcompile.build(
        model, target="ort-x86-avx2", out=tmp_path / "w8.onnx", scheme="w8", eval_data=ROWS,
        latency=False, effort="fast",
    ).report  # fmt: skip
    assert report.accuracy is not None
    text, share = report.accuracy.perplexity, report.accuracy.agreement
    assert text is not None
    assert share is not None
    assert text.tokens == share.total == 12 * 16
    assert abs(text.rise_percent) < 2
    assert share.value > 0.9
    assert report.cache is not None
    assert report.cache.floats == report.cache.artefact == 2 * HEADS * SIZE * 4
    assert any("attention_mask (ones)" in str(note) for note in report.notes)


def test_a_check_times_prefill_and_one_token_more(model: Path) -> None:
    report = qcompile.check(
        model, reference=model, data=ROWS, max_drop=0.0, min_agreement=1.0, max_perplexity=1e9,
        max_latency_ratio=5.0,
    )  # fmt: skip
    assert report.passed
    assert [g.name for g in report.gates[:3]] == ["max-drop", "min-agreement", "max-perplexity"]
    latency, found = report.measured.latency, report.measured.decoding
    assert latency is not None
    assert found is not None
    assert latency.each == "one token behind 17 others"
    assert (found.past, found.prompt, len(found.prefill.ratios)) == (17, 17, 1)
    assert found.float_memory_mb is not None
    assert found.artefact_memory_mb is not None
    assert 20 < found.artefact_memory_mb < 1000


def test_a_gate_on_perplexity_needs_a_language_model(model: Path, tmp_path: Path) -> None:
    report = qcompile.check(model, reference=model, data=ROWS, max_perplexity=1.0, latency=False)
    assert not report.passed
    assert any("2 empty caches" in str(note) for note in report.notes)
    one = ROWS[:, :1]
    with pytest.raises(QCompileError, match="max-perplexity needs") as caught:
        qcompile.check(model, reference=model, data=one, max_perplexity=1.0, latency=False)
    assert caught.value.code is Code.BAD_OPTION
