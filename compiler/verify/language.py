"""What a language model is judged by: perplexity, and the next token that it would choose.

The last token of each text is only what the one before it should say, so that a row of 257 tokens
is 256 inputs and the token after each. Padding says nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from qcompile.compiler.padding import text_positions
from qcompile.compiler.report.accuracy import Perplexity, Share
from qcompile.compiler.verify.metrics import wilson
from qcompile.compiler.verify.spread import paired_spread
from qcompile.core.decoder_ends import TOKENS, is_cache, scores_among
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds, Session

_CHUNK: Final = 1 << 20
"""Logits that are widened to float64 at a time."""
_CAUSAL: Final = 1e-3
"""Share of the largest logit by which a later token may move earlier positions: rounding."""


@dataclass(frozen=True)
class Language:
    """Where a model has its tokens and its logits."""

    tokens: str
    """The input of token numbers."""
    logits: int
    """Which output holds them, floats (texts, tokens, vocabulary)."""
    causal: bool = True
    """Whether no position knows the tokens behind it, so that it says what comes next."""
    cuts: bool = True
    """Whether the model takes a text without its last token; not if its length is fixed."""

    def fed(self, feeds: Feeds) -> Feeds:
        """The feeds without the last token of each text."""
        return without_last(feeds, self.tokens) if self.cuts and self.causal else feeds


@dataclass(frozen=True)
class LanguageTerms:
    """What one sample contributes."""

    positions: int
    agree: int
    """Positions at which both models' largest logit is the same token."""
    predicted: int = 0
    """Positions whose next token is known."""
    reference: float = 0.0
    candidate: float = 0.0
    """Their negative log likelihoods, summed, in nats."""


def find_language(session: Session, feeds: Feeds) -> Language | None:
    """Tell a language model by what it makes of one sample; None where it is none.

    1. It takes whole numbers (texts, tokens) by a name that tokens have.
    2. One output is floats (texts, tokens, more than the largest token), by its name no hidden
       states and no cache.
    3. It is causal if it has caches, or if another last token moves no earlier logit. Otherwise
       (a masked language model) nothing says what the next token is, only agreement is judged.

    Args:
        session: the float model.
        feeds: a sample of it.
    """
    tokens = next((name for name in feeds if name.rpartition(".")[2] in TOKENS), None)
    if tokens is None or feeds[tokens].ndim != 2 or feeds[tokens].dtype.kind not in "iu":
        return None
    ids = feeds[tokens]
    outputs = session.run(feeds)
    shaped = {
        name: i
        for i, (name, y) in enumerate(zip(session.output_names, outputs, strict=True))
        if y.ndim == 3 and y.dtype.kind == "f" and y.shape[:2] == ids.shape
    }
    name = scores_among(tuple(shaped))
    if name is None or not ids.size or outputs[shaped[name]].shape[2] <= int(ids.max()):
        return None
    found = Language(tokens, shaped[name], causal=any(map(is_cache, session.input_names)))
    if not found.causal:
        found = replace(found, causal=_is_causal(session, feeds, found, outputs[found.logits]))
    return replace(found, cuts=takes_less(session, feeds, found))


def language_terms(
    language: Language, feeds: Feeds, first: np.ndarray, second: np.ndarray
) -> LanguageTerms:
    """Compare the logits of one sample.

    Args:
        language: where they come from.
        feeds: the whole sample, its last tokens included.
        first: logits of the float model, (texts, positions, vocabulary).
        second: logits of the artefact, of the same shape.
    """
    ids, count = feeds[language.tokens], first.shape[1]
    text = text_of(feeds, ids.shape)
    known = text[:, :count]
    agree = _greedy(first)[known] == _greedy(second)[known]
    if not language.causal:
        return LanguageTerms(int(agree.size), int(agree.sum()))
    following = ids[:, 1 : count + 1]
    told = (text[:, 1 : count + 1] & text[:, :-1][:, :count])[:, : following.shape[1]]
    labels = following[told].astype(np.int64)
    width = following.shape[1]
    a, b = (_surprise(y[:, :width], told, labels) for y in (first, second))
    return LanguageTerms(int(agree.size), int(agree.sum()), len(labels), a, b)


def text_of(feeds: Feeds, shape: tuple[int, ...]) -> np.ndarray:
    """Where a sample has text, bool (texts, tokens); a mask that covers caches too ends with it."""
    text = text_positions(feeds)
    if text is None or text.shape[1] < shape[1]:
        return np.ones(shape, bool)
    return text[:, text.shape[1] - shape[1] :]


def without_last(feeds: Feeds, tokens: str) -> dict[str, np.ndarray]:
    """The feeds of a sample less the last token of each text, its mask and its place.

    A text of one token is left as it is.
    """
    count = feeds[tokens].shape[1]
    if count < 2:
        return dict(feeds)
    return {name: _shorter(x, count) for name, x in feeds.items()}


def _shorter(x: np.ndarray, count: int) -> np.ndarray:
    if x.dtype.kind not in "iub" or not 1 <= x.ndim <= 2 or x.shape[-1] < count:
        return x
    return np.ascontiguousarray(x[..., :-1])


class LanguageScore:
    """Sums up the terms of a language model."""

    def __init__(self) -> None:
        self._terms: list[LanguageTerms] = []

    def add(self, terms: LanguageTerms) -> None:
        """Take in what the next sample contributes."""
        self._terms.append(terms)

    def agreement(self) -> Share:
        """Share of positions at which both models choose the same token."""
        return wilson(sum(t.agree for t in self._terms), sum(t.positions for t in self._terms))

    def perplexity(self) -> Perplexity | None:
        """Of both models; None where no token's next one is known.

        The interval is that of the mean difference of log likelihoods, by paired bootstrap over
        samples, since the tokens of a text depend on each other.
        """
        total = sum(t.predicted for t in self._terms)
        if not total:
            return None
        before, after = (
            np.array([getattr(t, name) for t in self._terms]) * (len(self._terms) / total)
            for name in ("reference", "candidate")
        )
        low = high = None
        if len(self._terms) > 1 and np.isfinite(before).all() and np.isfinite(after).all():
            low, high = (100.0 * float(np.expm1(e)) for e in paired_spread(after, before))
        return Perplexity(
            tokens=total,
            float_value=_exp(float(before.mean())),
            artefact_value=_exp(float(after.mean())),
            rise_low=low,
            rise_high=high,
        )


def _exp(nats: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.exp(nats))


def _greedy(logits: np.ndarray) -> np.ndarray:
    """The token of the largest logit at each position; one that is NaN never wins."""
    chosen = logits.argmax(axis=-1)
    if np.isnan(logits).any():
        chosen = np.where(np.isnan(logits), -np.inf, logits).argmax(axis=-1)
    return np.asarray(chosen)


def _surprise(logits: np.ndarray, where: np.ndarray, labels: np.ndarray) -> float:
    """Summed negative log likelihood of the labels, in nats; infinite where a logit is NaN."""
    rows, columns = np.nonzero(where)
    step = max(1, _CHUNK // max(logits.shape[-1], 1))
    total = 0.0
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        y = logits[rows[part], columns[part]].astype(np.float64)
        top = y.max(axis=1, keepdims=True)
        own = y[np.arange(len(y)), labels[part]]
        total += float((top[:, 0] + np.log(np.exp(y - top).sum(axis=1)) - own).sum())
    return total if np.isfinite(total) else np.inf


def _is_causal(session: Session, feeds: Feeds, found: Language, logits: np.ndarray) -> bool:
    ids = feeds[found.tokens]
    if ids.shape[1] < 2:
        return False
    changed = ids.copy()
    changed[:, -1] = np.where(ids[:, -1] == ids[:, 0], (ids[:, 0] + 1) % logits.shape[2], ids[:, 0])
    moved = session.run({**feeds, found.tokens: changed})[found.logits]
    most = _CAUSAL * float(np.abs(logits).max(initial=0.0))
    return bool(np.abs(moved[:, :-1] - logits[:, :-1]).max(initial=0.0) <= most)


def takes_less(session: Session, feeds: Feeds, found: Language) -> bool:
    """Whether a causal model runs without the last token: one of a fixed length does not."""
    if not found.causal or feeds[found.tokens].shape[1] < 2:
        return found.causal
    try:
        session.run(without_last(feeds, found.tokens))
    except QCompileError as error:
        if error.code is not Code.RUNTIME_FAILED:
            raise
        return False
    return True


def no_caches(names: Sequence[str], language: Language | None) -> list[int]:
    """Which outputs are compared: caches are what a language model tells itself, in its own way."""
    if language is None:
        return list(range(len(names)))
    return [i for i, name in enumerate(names) if not is_cache(name)]
