"""Language models in onnxruntime-genai: each folder says what ONNX Runtime says step by step."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import qcompile
from tests.compiler.genai.helpers import generated, greedy
from tests.figures import Figures
from tests.models import smollm2
from tests.models.building import Built

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.genai]

PROMPTS = ("And it came to pass", "In the beginning", "And Jesus said unto them,")
NEW = 24
TEXTS, POSITIONS = 10, 64
"""Of 640 positions: ten texts, each position with the true tokens before it."""
CHAT = """
[genai]
eos = "<|im_end|>"
bos = "<|im_start|>"

[data]
tokens = 128
limit = 6
"""
"""SmolLM2's tokenizer has several tokens that could end a text; a few windows of one."""


@pytest.fixture(scope="module")
def rows(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A few calibration rows, and the ten texts."""
    folder = tmp_path_factory.mktemp("rows")
    calibration = np.load(models_dir / "llm" / "calibration.npz")["input_ids"]
    texts = np.load(models_dir / "llm" / "evaluation.npz")["input_ids"]
    np.savez(folder / "calibration.npz", input_ids=calibration[:32])
    np.savez(folder / "texts.npz", input_ids=texts[:TEXTS, : POSITIONS + 1])
    return folder / "calibration.npz", folder / "texts.npz"


def encoded(folder: Path, text: str) -> list[int]:
    from tokenizers import Tokenizer

    return list(Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text).ids)


def decoded(folder: Path, tokens: list[int]) -> str:
    from tokenizers import Tokenizer

    return str(Tokenizer.from_file(str(folder / "tokenizer.json")).decode(tokens))


@pytest.mark.parametrize("scheme", ["float", "w8", "w4", "w2+kv8", "w4+kv4"])
def test_every_artefact_says_what_it_computes(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    rows: tuple[Path, Path],
    scheme: str,
) -> None:
    model = models_dir / "llm" / "lm_with_past.onnx"
    calibration, texts = rows
    built = builder(
        model,
        calibration,
        evaluation=texts,
        options=("--scheme", scheme, "--emit", "genai"),
    )
    folder = built.path.parent
    for prompt in (encoded(folder, text) for text in PROMPTS):
        expected = greedy(built.path, prompt, NEW)
        assert generated(folder, prompt, NEW) == expected
        if scheme == "float":
            assert expected == greedy(model, prompt, NEW)
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["search"]["past_present_share_buffer"]  # every layer writes its cache in place
    accuracy = built.report["accuracy"]
    share = accuracy["agreement"]
    assert share["total"] == TEXTS * POSITIONS
    figures.add(f"lm {scheme}", "next token as float's", 1.0, share["value"])
    text = accuracy["perplexity"]
    figures.add(f"lm {scheme}", "perplexity", text["float_value"], text["artefact_value"])
    if scheme in {"float", "w8"}:
        assert share["value"] >= (1.0 if scheme == "float" else 0.97)


def test_smollm2_knows_the_capital(
    models_dir: Path, builder: Callable[..., Built], figures: Figures
) -> None:
    source = smollm2.find(models_dir)
    model = source / "smollm2_with_past.onnx"
    text = models_dir / "encoder" / "calibration.txt"
    for scheme in ("w4", "w4+kv8"):
        options = ("--scheme", scheme, "--emit", "genai", "--tokenizer", str(source))
        data = text if "kv" in scheme else None
        built = builder(model, data, config=CHAT, options=options)
        folder = built.path.parent
        size = built.path.stat().st_size
        figures.add(f"SmolLM2 {scheme}", "MB", model.stat().st_size / 1e6, size / 1e6, "< 120")
        assert size < 120e6
        prompt = encoded(folder, "The capital of France is")
        said = generated(folder, prompt, 8)
        assert said == greedy(built.path, prompt, 8)
        assert "Paris" in decoded(folder, said)


def test_perplexity_is_that_of_the_whole_row(
    models_dir: Path, tmp_path: Path, figures: Figures
) -> None:
    """Both forms of the float model, token rows as they are: what MANIFEST.md has for 64 rows."""
    rows = np.load(models_dir / "llm" / "evaluation.npz")["input_ids"][:64]
    np.savez(tmp_path / "rows.npz", input_ids=rows)
    folder = models_dir / "llm"
    report = qcompile.check(
        folder / "lm_outlier_with_past.onnx",
        reference=folder / "lm_with_past.onnx",
        data=tmp_path / "rows.npz",
        latency=False,
        max_perplexity=21.91,
    )
    assert report.passed
    assert report.accuracy is not None
    text = report.accuracy.perplexity
    assert text is not None
    figures.add("lm", "perplexity", text.float_value, text.artefact_value, "21.904")
    assert text.tokens == 64 * 256
    assert text.float_value == pytest.approx(21.904, abs=0.002)
    assert text.artefact_value == pytest.approx(text.float_value, rel=1e-5)
