"""How far the artefacts of one build lie apart: the same plan under several runtimes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qcompile.core.executor import Feeds, Session
from qcompile.core.parallel import ordered_map


@dataclass(frozen=True)
class Parity:
    """Two artefacts on the same samples."""

    one: str
    other: str
    samples: int
    same_class: int | None
    """Samples whose largest score is the same; None when the first output is no table of scores."""
    worst: float
    """Largest difference of an element of any output, as floats."""

    def __str__(self) -> str:
        apart = f"outputs of {self.one} and {self.other} differ by at most {self.worst:.3g}"
        if self.same_class is None:
            return f"{apart} on {self.samples} samples"
        return f"{apart}, and name the same class for {self.same_class} of {self.samples} samples"


def compare_artefacts(
    sessions: Mapping[str, Session], feeds: Sequence[Feeds], *, threads: int = 1
) -> list[Parity]:
    """Hold every artefact against the first one.

    Args:
        sessions: artefacts by name, to be fed and read as the float model is.
        feeds: samples.
        threads: samples in work at a time.
    """
    names = list(sessions)
    results = {
        name: ordered_map(sessions[name].run, feeds, threads) if feeds else [] for name in names
    }
    first = names[0]
    return [_compare(first, name, results[first], results[name]) for name in names[1:]]


def _compare(
    one: str, other: str, a: Sequence[list[np.ndarray]], b: Sequence[list[np.ndarray]]
) -> Parity:
    pairs = [pair for x, y in zip(a, b, strict=True) for pair in zip(x, y, strict=True)]
    gaps = [float(np.abs(np.float64(x) - np.float64(y)).max(initial=0.0)) for x, y in pairs]
    scores = [(x[0], y[0]) for x, y in zip(a, b, strict=True)]
    classes = None
    if scores and all(x.ndim == 2 and x.shape[0] == 1 and x.shape[1] > 1 for x, _ in scores):
        classes = sum(int(x.argmax()) == int(y.argmax()) for x, y in scores)
    return Parity(one, other, len(scores), classes, max(gaps, default=0.0))
