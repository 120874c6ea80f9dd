"""Which ends of a language model are what: tokens, mask, positions, caches, logits.

Told by names, types and shapes alone, so that a float export and an artefact whose caches are
integers are read in the same way.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.core.signature import Signature, TensorSpec

TOKENS: Final = ("input_ids", "tokens", "token_ids", "ids")
"""What exporters call the input of token numbers."""
EXACT: Final = "_exact"
"""What follows a packed cache's name in that of its tokens that stay floats."""
_CACHE: Final = re.compile(r"past|cache|present", re.IGNORECASE)
_NO_SCORES: Final = re.compile(r"hidden|state|embed", re.IGNORECASE)
_LAYER: Final = re.compile(r"\d+")
_KIND: Final = re.compile(r"(key|value|[kv])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Cache:
    """A cache of one layer: what the model takes of earlier tokens and gives back longer."""

    taken: TensorSpec
    given: TensorSpec
    batch: int
    """Axis of the texts."""
    axis: int
    """Axis of the tokens."""

    def empty(self, batch: int) -> np.ndarray:
        """The cache before the first token, for so many texts."""
        dims = list(self.taken.shape or ())
        dims[self.batch], dims[self.axis] = batch, 0
        return np.zeros([d if isinstance(d, int) else 1 for d in dims], self.taken.dtype)

    @property
    def kind(self) -> str:
        """``k`` for keys, ``v`` for values; empty where its name does not say."""
        return _key(self.taken)[1]

    @property
    def token_bytes(self) -> int:
        """Bytes that one token of one text takes."""
        skipped = {self.batch, self.axis}
        dims = [d for i, d in enumerate(self.taken.shape or ()) if i not in skipped]
        size = np.dtype(self.taken.dtype).itemsize
        return int(np.prod([d for d in dims if isinstance(d, int)])) * size


@dataclass(frozen=True)
class DecoderEnds:
    """The ends of a model that reads tokens and says what the next one may be."""

    tokens: TensorSpec
    """Whole numbers (texts, tokens)."""
    logits: TensorSpec
    """Floats (texts, tokens, vocabulary)."""
    mask: TensorSpec | None = None
    """Whole numbers (texts, earlier tokens and these): 1 where there is text."""
    positions: tuple[TensorSpec, ...] = ()
    """Whole numbers (texts, tokens) or (tokens,): places in the text, from 0."""
    caches: tuple[Cache, ...] = ()

    @property
    def makeable(self) -> tuple[str, ...]:
        """Inputs that follow from the tokens."""
        mask = () if self.mask is None else (self.mask.name,)
        return (
            *mask,
            *(spec.name for spec in self.positions),
            *(cache.taken.name for cache in self.caches),
        )

    @property
    def token_bytes(self) -> int:
        """Bytes that one token of one text takes in all caches."""
        packed = (c for c in self.caches if not c.taken.name.endswith(EXACT))
        return sum(cache.token_bytes for cache in packed)


def decoder_ends(signature: Signature) -> DecoderEnds | None:
    """Find the ends of a language model; None where it is none.

    1. The tokens are the input of whole numbers and two axes that bears one of the ``TOKENS``'
       names.
    2. A cache is an input of three axes or more, all of known size but the texts' and one: its
       output is the one of the same layer and kind. ``past_key_values.3.key`` and
       ``present.3.key``, ``past_3_k`` and ``present_3_k`` belong together.
    3. The logits are the output ``logits``; in a model with caches also its only other output of
       three axes that is not said to be hidden states.
    4. Whole numbers with ``mask`` or ``position`` in their name are those.
    """
    tokens = next(filter(is_tokens, signature.inputs), None)
    if tokens is None:
        return None
    caches = _caches(signature, tokens)
    given = {cache.given.name for cache in caches}
    outputs = {s.name: s for s in signature.outputs if s.name not in given and _is_float(s, 3)}
    scores = scores_among(tuple(outputs))
    if scores is None or not (caches or _last_part(scores) == "logits"):
        return None
    others = [s for s in signature.inputs if s is not tokens]
    return DecoderEnds(
        tokens,
        outputs[scores],
        next((s for s in others if _is_whole(s, 2) and "mask" in s.name), None),
        tuple(s for s in others if _is_whole(s, 1, 2) and "position" in s.name),
        caches,
    )


def is_tokens(spec: TensorSpec) -> bool:
    """Whether an input takes token numbers."""
    return _is_whole(spec, 2) and _last_part(spec.name) in TOKENS


def is_cache(name: str) -> bool:
    """Whether an input or output is called as caches are."""
    return _CACHE.search(name) is not None


def scores_among(names: Sequence[str]) -> str | None:
    """The output of logits by name: ``logits``, else the only one that is not said to be else.

    Args:
        names: of the outputs of floats with three axes.
    """
    named = [name for name in names if _last_part(name) == "logits"]
    others = [n for n in names if not is_cache(n) and _NO_SCORES.search(n) is None]
    found = named or others
    return found[0] if len(found) == 1 else None


def _caches(signature: Signature, tokens: TensorSpec) -> tuple[Cache, ...]:
    texts = tokens.shape[0] if tokens.shape else None
    taken = [s for s in signature.inputs if is_cache(s.name) and len(s.shape or ()) > 2]
    given = [s for s in signature.outputs if is_cache(s.name) and len(s.shape or ()) > 2]
    pairs = _paired(taken, given)
    caches = []
    for before, after in pairs:
        dims = list(before.shape or ())
        named = isinstance(texts, str) and texts in dims
        batch = dims.index(texts) if named else 0
        free = [i for i, d in enumerate(dims) if i != batch and not isinstance(d, int)]
        if len(free) == 1:
            caches.append(Cache(before, after, batch, free[0]))
    return tuple(caches)


def _paired(
    taken: Sequence[TensorSpec], given: Sequence[TensorSpec]
) -> list[tuple[TensorSpec, TensorSpec]]:
    """Inputs with the outputs of the same layer and kind; by their order where names do not say."""
    if len(taken) != len(given):
        return []
    by_key = {_key(spec): spec for spec in given}
    if len(by_key) == len(given) and all(_key(spec) in by_key for spec in taken):
        return [(spec, by_key[_key(spec)]) for spec in taken]
    return list(zip(taken, given, strict=True))


def _key(spec: TensorSpec) -> tuple[str, str]:
    """Layer and kind of a cache by its name: ``("3", "k")``."""
    numbers, kinds = _LAYER.findall(spec.name), _KIND.findall(spec.name.lower())
    return (numbers[-1] if numbers else "", kinds[-1][0] if kinds else "")


def _last_part(name: str) -> str:
    return re.split(r"[./:]", name)[-1]


def _is_whole(spec: TensorSpec, *ranks: int) -> bool:
    return np.dtype(spec.dtype).kind in "iu" and len(spec.shape or ()) in ranks


def _is_float(spec: TensorSpec, rank: int) -> bool:
    return np.dtype(spec.dtype).kind == "f" and len(spec.shape or ()) == rank
