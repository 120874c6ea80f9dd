"""An input of which the artefact takes the bytes u, and the float model ``(u - mean) / std``.

The numbers travel with a graph, and in every artefact, as JSON: what feeds an artefact with the
float model's own input finds the bytes behind it by them.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np

PIXELS_KEY: Final = "qcompile.pixels"
"""metadata_props key of a graph and of an artefact: input -> ``Pixels``, as JSON."""


@dataclass(frozen=True)
class Pixels:
    """How an input of the float model is made of bytes, and which value stands for these."""

    value: str
    """The value of the canonical graph that is ``(u - zero_point) * scale``."""
    scale: float
    zero_point: int
    """Of uint8."""
    mean: tuple[float, ...]
    """One number, or one a channel."""
    std: tuple[float, ...]
    """As many; positive."""
    axis: int = 0
    """Where the float model's input has its channels."""
    nodes: tuple[str, ...] = ()
    """Nodes of the canonical graph that make ``value`` of the input; no artefact has them."""

    def bytes_of(self, x: np.ndarray, dtype: str) -> np.ndarray:
        """The bytes ``u = x * std + mean`` behind an input of the float model.

        Computed in float64, rounded half to even, clipped to 0..255; int8 holds ``u - 128``.
        """
        shape = [1] * x.ndim
        if len(self.mean) > 1:
            shape[self.axis] = len(self.mean)
        mean, std = (np.asarray(v, np.float64).reshape(shape) for v in (self.mean, self.std))
        u = np.clip(np.rint(x.astype(np.float64) * std + mean), 0, 255)
        return (u - 128).astype(np.int8) if dtype == "int8" else u.astype(np.uint8)

    def is_made_of_bytes(self, x: np.ndarray, within: float = 0.01) -> bool:
        """Whether an input of the float model lies on the grid of bytes, to ``within`` steps."""
        made = self.bytes_of(x, "uint8").astype(np.float64)
        shape = [1] * x.ndim
        if len(self.mean) > 1:
            shape[self.axis] = len(self.mean)
        mean, std = (np.asarray(v, np.float64).reshape(shape) for v in (self.mean, self.std))
        return bool((np.abs(x.astype(np.float64) * std + mean - made) <= within).all())


def pixels_to_json(inputs: Mapping[str, Pixels]) -> str:
    """One line of JSON, equal for equal contents."""
    table = {name: asdict(one) for name, one in inputs.items()}
    return json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def pixels_from_json(text: str | bytes | None) -> dict[str, Pixels]:
    """Read ``pixels_to_json``'s text; empty for anything else: an artefact may come from anyone."""
    try:
        return {name: _read(entry) for name, entry in json.loads(text or "{}").items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _read(entry: Mapping[str, object]) -> Pixels:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    made = Pixels(**values)  # type: ignore[arg-type]
    numbers = [made.scale, *made.mean, *made.std]
    if not all(math.isfinite(float(n)) for n in numbers) or len(made.mean) != len(made.std):
        raise ValueError("not what was written")
    if not made.mean or not isinstance(made.axis, int) or not isinstance(made.zero_point, int):
        raise ValueError("not what was written")
    return made
