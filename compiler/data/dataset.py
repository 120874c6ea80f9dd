"""What a set of samples is to the rest of the compiler: read by index, never held as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Label = int | np.ndarray | None
"""A class index; an array of them (a fixed batch), or any other target; None when there is none."""


@dataclass(frozen=True)
class Sample:
    """One run of the model.

    Attributes:
        feeds: input name -> exactly what a session is fed: batch dimension included, in the
            element type of the model's input, finite.
        label: what the model should say, if it is known.
        source: where it came from, for messages: ``set/file`` or ``set/file[index]``.
    """

    feeds: dict[str, np.ndarray]
    label: Label
    source: str


class Dataset(Protocol):
    """Samples read on demand.

    ``dataset[i]`` may be called from several threads at once, in any order and repeatedly; it gives
    equal bytes each time, and what stays in memory does not grow with the number of samples.
    It raises QCompileError DATA_UNREADABLE, DATA_SHAPE, DATA_TYPE or DATA_VALUES naming the file.
    """

    @property
    def name(self) -> str:
        """What the set is called in messages."""

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...


@dataclass(frozen=True)
class Subset:
    """Some samples of another set, in the order of ``indices``."""

    dataset: Dataset
    indices: Sequence[int]
    name: str

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        return self.dataset.has_labels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]


def evenly(dataset: Dataset, limit: int | None) -> Dataset:
    """At most ``limit`` samples of a set, spread evenly over it; all of them when None."""
    count = len(dataset)
    if limit is None or count <= limit:
        return dataset
    return Subset(dataset, [i * count // limit for i in range(limit)], dataset.name)


def find_label(names: Mapping[str, object]) -> str | None:
    """Which of the arrays of a sample is its label: ``y``, ``label`` or ``labels``."""
    return next((name for name in ("y", "label", "labels") if name in names), None)
