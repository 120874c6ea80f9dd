"""Caches in 8, 4 and 2 bits on the language model with outliers: perplexity, bytes, going on."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.decoding import Decoder, losses, perplexity
from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import FLOAT_PERPLEXITY, session

pytestmark = [pytest.mark.models, pytest.mark.slow]

GATES = {"kv8": 22.06, "kv4": 22.22, "kv2": 22.95}
TOKEN_BYTES = {"kv8": 768, "kv4": 384, "kv2": 240}
"""3 layers of 2 heads of 64 keys and 64 values: 6 * (64 + 64) and its half; with 2 bits 6 * (16 +
16) and 2 float16 for each of the two groups of a value."""
EXACT_BYTES = 6 * 2 * 64 * 4 * 36


@pytest.fixture(scope="module")
def made(models_dir: Path, builder: Callable[..., Built]) -> Callable[[str], Built]:
    """Each artefact once."""
    folder = models_dir / "llm"
    built: dict[str, Built] = {}

    def make(scheme: str) -> Built:
        if scheme not in built:
            options = ("--scheme", scheme)
            model, data = folder / "lm_outlier_with_past.onnx", folder / "calibration.npz"
            built[scheme] = builder(model, data, options=options)
        return built[scheme]

    return make


@pytest.mark.parametrize("cache", GATES)
def test_perplexity_and_bytes(
    cache: str, made: Callable[[str], Built], text_rows: np.ndarray, figures: Figures
) -> None:
    built = made(f"float+{cache}")
    # Read in pieces: what plain operators store is read by later runs only.
    after = perplexity(loaded := session(built.path), text_rows, None if cache != "kv2" else 16)
    figures.add(f"lm_outlier {cache}", "perplexity", FLOAT_PERPLEXITY, after, f"<= {GATES[cache]}")
    assert after <= GATES[cache]
    decoder = Decoder(loaded)
    held = [decoder.held for _ in range(2) if decoder(text_rows[:2, :50]) is not None]
    fixed = EXACT_BYTES if cache == "kv2" else 0
    stored = (50, 100) if cache != "kv2" else (14, 64)
    assert held == [2 * (fixed + n * TOKEN_BYTES[cache]) for n in stored]
    assert any(f"take {TOKEN_BYTES[cache]} bytes a token" in n for n in notes(built))


def test_going_on_is_like_reading_at_once(
    made: Callable[[str], Built], text_rows: np.ndarray, figures: Figures
) -> None:
    """kv8: half the text as a prompt, the rest token by token."""
    loaded, some = session(made("float+kv8").path), text_rows[:8]
    whole = Decoder(loaded)(some[:, :256])
    decoder = Decoder(loaded)
    parts = [decoder(some[:, :128])] + [decoder(some[:, at : at + 1]) for at in range(128, 256)]
    logits = np.concatenate(parts, axis=1)
    apart = np.abs(logits - whole)
    before, after = (np.exp(losses(x, some[:, 1:]).mean()) for x in (whole, logits))
    figures.add("lm_outlier kv8", "logits, token by token", 0, float(apart.mean()), "<= 1e-3")
    figures.add("lm_outlier kv8", "the most", 0, float(apart.max()), "<= 0.05")
    assert apart.mean() <= 1e-3
    assert apart.max() <= 0.05
    assert abs(before - after) <= 0.01


def test_beside_stored_weights(
    made: Callable[[str], Built], text_rows: np.ndarray, figures: Figures
) -> None:
    built = made("w8+kv8")
    after = perplexity(session(built.path), text_rows)
    figures.add("lm_outlier w8+kv8", "perplexity", FLOAT_PERPLEXITY, after, "<= 22.25")
    assert after <= 22.25


def notes(built: Built) -> list[str]:
    return [str(note) for note in built.report["notes"]]
