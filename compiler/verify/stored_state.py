"""Runs a decoder whose caches have several parts as the float model is run, one piece at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.core.decoder_ends import EXACT, TOKENS, is_cache
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.core.signature import TensorSpec

PIECE: Final = 16
"""Tokens read at a time: what is stored of earlier ones is read by all others."""


@dataclass(frozen=True)
class StoredState:
    """A session that reads a text in pieces, so that what it stores between runs counts.

    A decoder that packs its caches by plain operators computes a prompt exactly, whatever it will
    have stored of it; read at once, a text would say nothing of what storing costs. Parts of caches
    that the float model has not are begun empty and handed on, and are neither asked for nor
    shown. Runs do not share anything.
    """

    session: Session
    inputs: Sequence[TensorSpec]

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs that the float model has too."""
        return _whole(self.session.input_names)

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the outputs that the float model has too."""
        return _whole(self.session.output_names)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Read a text from its beginning.

        Raises:
            QCompileError: RUNTIME_FAILED for a text that goes on behind a cache of floats.
        """
        tokens = next(n for n in feeds if n.rpartition(".")[2] in TOKENS)
        caches = {spec.name: spec for spec in self.inputs if is_cache(spec.name)}
        if any(feeds[name].size for name in caches if name in feeds):
            raise QCompileError(
                Code.RUNTIME_FAILED,
                "samples that begin behind a cache cannot be given a packed one",
            )
        texts, count = feeds[tokens].shape
        state = {name: _empty(spec, texts) for name, spec in caches.items()}
        others = {n: x for n, x in feeds.items() if n not in caches}
        pieces = []
        for start in range(0, count, PIECE):
            stop = min(start + PIECE, count)
            given = {n: _cut(n, x, start, stop, count) for n, x in others.items()}
            made = dict(
                zip(self.session.output_names, self.session.run({**given, **state}), strict=True)
            )
            state = dict(zip(state, (made[n] for n in _given(caches, made)), strict=True))
            pieces.append(made)
        return [self._joined(name, pieces) for name in self.output_names]

    @staticmethod
    def _joined(name: str, pieces: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
        """An output of the whole text: of a cache what was handed back last."""
        if is_cache(name):
            return pieces[-1][name]
        return np.concatenate([made[name] for made in pieces], axis=1)


def _whole(names: Sequence[str]) -> list[str]:
    """Names but for those of parts of caches: ``NAME_exact``, ``NAME_scale`` beside ``NAME``."""
    known = set(names)
    return [n for n in names if not (is_cache(n) and n.rpartition("_")[0] in known)]


def with_stored_state(session: Session, inputs: Sequence[TensorSpec]) -> Session:
    """The session itself, or where its caches have parts one that looks after them."""
    has_parts = any(spec.name.endswith(EXACT) for spec in inputs)
    return StoredState(session, inputs) if has_parts else session


def _given(caches: Mapping[str, TensorSpec], made: Mapping[str, np.ndarray]) -> list[str]:
    """Outputs that hold caches, in the order of the inputs that take them."""
    outputs = [name for name in made if is_cache(name)]
    if len(outputs) != len(caches):
        raise QCompileError(
            Code.RUNTIME_FAILED, f"{len(caches)} caches are taken, and {len(outputs)} given back"
        )
    return outputs


def _empty(spec: TensorSpec, texts: int) -> np.ndarray:
    dims = [d if isinstance(d, int) else 0 for d in spec.shape or ()]
    return np.zeros([texts, *dims[1:]], spec.dtype)


def _cut(name: str, x: np.ndarray, start: int, stop: int, count: int) -> np.ndarray:
    """What one piece has of tokens and positions, and of a mask all up to its end."""
    if "mask" in name:
        return x[:, : x.shape[1] - count + stop]
    return x[..., start:stop]
