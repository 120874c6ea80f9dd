"""Looks at samples as they pass and remarks on what seems wrong with the set.

Errors (NaN, wrong shape or type, files that cannot be read) are raised where a sample is made; here
are the things that are legal but suspicious. What depends on the model is in ``scaling.py``.
"""

import threading
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from qcompile.compiler.data.dataset import Dataset, Sample
from qcompile.core.notes import Level, Note

MANY = 0.1
"""From this share of the samples on, copies and constants are a warning, below it a remark."""

PROBED = 16
"""So many samples at the head of the set are searched for raw 0..255 values."""


@dataclass(frozen=True)
class _Raw:
    """What was seen of one float input in the head of the set."""

    low: float
    high: float
    whole: bool


class Watched:
    """A set that looks at each sample the first time it is read; reading it changes nothing.

    Costs about 0.1 ms for a picture of 224 x 224 and a few bytes a sample. ``notes()`` does not
    depend on the order or the threads in which samples were read.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.name, self.has_labels = dataset.name, dataset.has_labels
        self._dataset = dataset
        self._seen = np.zeros(len(dataset), bool)
        self._prints = np.zeros(len(dataset), np.uint64)
        self._constant = np.zeros(len(dataset), bool)
        self._raw: dict[tuple[int, str], _Raw] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        if not self._seen[index]:
            self._look(sample, index)
        return sample

    def notes(self, judged: Collection[str] = ()) -> list[Note]:
        """Remarks on the samples read so far.

        Args:
            judged: inputs whose scaling was tried on the model (``scaling.first_layers``); whether
                their numbers are raw needs no remark.

        """
        with self._lock:
            seen = np.flatnonzero(self._seen)
            return [*self._constants(seen), *self._copies(seen), *self._raw_integers(judged)]

    def _look(self, sample: Sample, index: int) -> None:
        print_ = _fingerprint(sample)
        floats = {name: x for name, x in sample.feeds.items() if x.dtype.kind == "f" and x.size > 1}
        ends = {name: (float(x.min()), float(x.max())) for name, x in floats.items()}
        constant = bool(ends) and all(low == high for low, high in ends.values())
        raw = {
            (index, name): _Raw(*ends[name], bool((x == np.rint(x)).all()))
            for name, x in floats.items()
            if index < PROBED
        }
        with self._lock:
            self._seen[index], self._constant[index] = True, constant
            self._prints[index] = print_
            self._raw.update(raw)

    def _constants(self, seen: np.ndarray) -> list[Note]:
        constant = seen[self._constant[seen]]
        if not constant.size:
            return []
        first = self._dataset[int(constant[0])].source
        what = f"{_of(constant.size, seen.size)} hold one value throughout (the first: {first})"
        return [Note(_level(constant.size, seen.size), f"{self.name}: {what}")]

    def _copies(self, seen: np.ndarray) -> list[Note]:
        _, first, counts = np.unique(self._prints[seen], return_index=True, return_counts=True)
        copies = int(seen.size - first.size)
        if not copies:
            return []
        example = self._dataset[int(seen[first[counts > 1].min()])].source
        what = f"{_of(copies, seen.size)} are exact copies of another one (of {example} first)"
        if first.size == 1:
            what = f"all {seen.size} samples are the same"
        return [Note(_level(copies, seen.size), f"{self.name}: {what}")]

    def _raw_integers(self, judged: Collection[str]) -> list[Note]:
        notes = []
        for name in sorted({name for _, name in self._raw} - set(judged)):
            facts = [raw for (_, owner), raw in self._raw.items() if owner == name]
            low, high = min(f.low for f in facts), max(f.high for f in facts)
            if all(f.whole for f in facts) and low >= 0 and 128 <= high <= 255:
                notes.append(
                    Note(
                        "info",
                        f"{self.name}: the float input {name!r} is fed whole numbers "
                        f"{low:.0f}..{high:.0f}; if the model was trained on scaled pictures, "
                        "set scale, mean and std in [preprocess]",
                    )
                )
        return notes


def _fingerprint(sample: Sample) -> int:
    """Two checksums of all feeds in one number; equal samples have equal ones."""
    crc, adler = 0, 1
    for _, x in sorted(sample.feeds.items()):
        contents = np.ascontiguousarray(x).data
        crc = zlib.crc32(contents, crc)
        # The second guards against chance; a part is enough for that, and costs less.
        adler = zlib.adler32(contents.cast("B")[:4096] if x.size else b"", adler)
    return crc << 32 | adler


def _level(count: int, total: int) -> Level:
    return "warning" if count >= MANY * total else "info"


def _of(count: int, total: int) -> str:
    return f"{count} of {total} samples"
