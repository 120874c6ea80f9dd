"""Lets a model with integer ends be fed and read like the float model it was made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompile.core.executor import Session
from qcompile.core.numerics.affine import dequantize, quantize


@dataclass(frozen=True, eq=False)
class QuantizedEnd:
    """Type and per-tensor parameters of an integer input or output."""

    dtype: str
    scale: np.ndarray
    zero_point: np.ndarray


@dataclass(frozen=True, eq=False)
class FloatEnds:
    """A session whose integer inputs are given, and whose integer outputs are read, as floats.

    ``ends`` is keyed by the names of inputs and outputs; one that is missing passes unchanged.
    """

    session: Session
    ends: Mapping[str, QuantizedEnd]

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs."""
        return self.session.input_names

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the outputs."""
        return self.session.output_names

    def feeds(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Float feeds as the session itself takes them."""
        return {name: self._in(name, x) for name, x in feeds.items()}

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once on float feeds."""
        outputs = self.session.run(self.feeds(feeds))
        names = self.session.output_names
        return [self._out(name, y) for name, y in zip(names, outputs, strict=True)]

    def _in(self, name: str, x: np.ndarray) -> np.ndarray:
        end = self.ends.get(name)
        if end is None or not np.issubdtype(x.dtype, np.floating):
            return x
        return quantize(x, end.scale, end.zero_point, end.dtype)

    def _out(self, name: str, y: np.ndarray) -> np.ndarray:
        end = self.ends.get(name)
        if end is None or np.issubdtype(y.dtype, np.floating):
            return y
        return dequantize(y, end.scale, end.zero_point)
