"""Lets a model with other ends be fed and read like the float model it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompile.core.executor import Session
from qcompile.core.numerics.affine import dequantize, quantize
from qcompile.core.pixels import Pixels


@dataclass(frozen=True, eq=False)
class End:
    """How an input or output of an artefact differs from the float model's of the same name."""

    dtype: str
    scale: np.ndarray | None = None
    """Per-tensor parameters of an integer end; None for one that is not quantized."""
    zero_point: np.ndarray | None = None
    perm: tuple[int, ...] | None = None
    """Order of its axes, ``artefact.shape[i] == model.shape[perm[i]]``; None when the same."""
    pixels: Pixels | None = None
    """How the float model's input is made of the bytes that the artefact takes, where it does."""

    shape: tuple[int | str | None, ...] | None = None
    """Of a cache that has another type or shape than the float model's; None for all else."""

    def given(self, x: np.ndarray) -> np.ndarray:
        """A value of the float model as the artefact takes it."""
        if self.shape is not None and not x.size:
            known = zip(self.shape, x.shape, strict=True)
            return np.zeros([d if isinstance(d, int) else own for d, own in known], self.dtype)
        if self.pixels is not None and _is_real(x):
            x = self.pixels.bytes_of(x, self.dtype)
        if self.perm is not None:
            x = np.ascontiguousarray(np.transpose(x, self.perm))
        if self.scale is None or self.zero_point is None or not _is_real(x):
            return x
        return quantize(x, self.scale, self.zero_point, self.dtype)

    def taken(self, y: np.ndarray) -> np.ndarray:
        """A value of the artefact as the float model would give it."""
        if self.scale is not None and self.zero_point is not None and not _is_real(y):
            y = dequantize(y, self.scale, self.zero_point)
        return y if self.perm is None else np.transpose(y, np.argsort(self.perm))


@dataclass(frozen=True, eq=False)
class FloatEnds:
    """A session that is fed and read as the float model is.

    ``ends`` is keyed by the names of inputs and outputs; one that is missing passes unchanged.
    """

    session: Session
    ends: Mapping[str, End]

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs."""
        return self.session.input_names

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the outputs."""
        return self.session.output_names

    def feeds(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The float model's feeds as the session itself takes them."""
        ends = self.ends
        return {name: ends[name].given(x) if name in ends else x for name, x in feeds.items()}

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once on the float model's feeds."""
        outputs = self.session.run(self.feeds(feeds))
        named = zip(self.session.output_names, outputs, strict=True)
        return [self.ends[name].taken(y) if name in self.ends else y for name, y in named]


def _is_real(x: np.ndarray) -> bool:
    return np.issubdtype(x.dtype, np.floating)
