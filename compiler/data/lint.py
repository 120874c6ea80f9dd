"""Looks at samples as they pass and remarks on what seems wrong with the set.

Errors (NaN, wrong shape or type, files that cannot be read) are raised where a sample is made; here
are the things that are legal but suspicious. What depends on the model is in ``scaling.py``,
``firing.py`` and ``growth.py``.
"""

import threading
import zlib
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from qcompile.compiler.data.arrangement import Steps, color_axis, is_misplaced, steps
from qcompile.compiler.data.dataset import Dataset, Label, Sample
from qcompile.compiler.data.sketch import MOST, near_copies, sketch
from qcompile.core.notes import Level, Note

MANY = 0.1
"""From this share of the samples on, copies and constants are a warning, below it a remark."""

PROBED = 16
"""So many samples at the head of the set are searched for raw 0..255 values, and for colours that
lie along the wrong axis."""

APART = 50.0
"""Pictures whose largest number is so many times the usual one, or its reverse, are scaled apart:
0..255 among 0..1. The dark and the bright of one scaling differ by less."""

FEWEST_LABELS = 20
"""Below this nothing is said about how the classes are spread."""


@dataclass(frozen=True)
class _Raw:
    """What was seen of one float input in the head of the set."""

    low: float
    high: float
    whole: bool


class Watched:
    """A set that looks at each sample the first time it is read; reading it changes nothing.

    Costs about 0.3 ms for a picture of 224 x 224, and 300 bytes each of the first ``MOST`` samples,
    a few bytes each of the others. ``notes()`` does not
    depend on the order or the threads in which samples were read.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.name, self.has_labels = dataset.name, dataset.has_labels
        self._dataset = dataset
        self._seen = np.zeros(len(dataset), bool)
        self._prints = np.zeros(len(dataset), np.uint64)
        self._constant = np.zeros(len(dataset), bool)
        self._raw: dict[tuple[int, str], _Raw] = {}
        self._labels = np.full(len(dataset), -1, np.int64)
        self._peaks = np.zeros(len(dataset), np.float32)
        self._sketches: dict[int, np.ndarray] = {}
        self._steps: dict[tuple[str, int], dict[int, Steps]] = {}
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
            return [
                *self._constants(seen),
                *self._copies(seen),
                *self._near_copies(),
                *self._scaled_apart(seen),
                *self._arranged(),
                *self._classes(seen),
                *self._raw_integers(judged),
            ]

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
        drawn = sketch(sample.feeds) if index < MOST and not constant else None
        pictures = [x for x in floats.values() if color_axis(x.shape) is not None]
        moves = {
            (name, color_axis(x.shape) or 0): found
            for name, x in sample.feeds.items()
            if index < PROBED and (found := steps(x)) is not None
        }
        with self._lock:
            self._seen[index], self._constant[index] = True, constant
            self._prints[index] = print_
            self._raw.update(raw)
            self._labels[index] = _class(sample.label)
            if drawn is not None:
                self._sketches[index] = drawn
            if pictures:
                self._peaks[index] = max(float(np.abs(x).max()) for x in pictures)
            for key, found in moves.items():
                self._steps.setdefault(key, {})[index] = found

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

    def _near_copies(self) -> list[Note]:
        where = sorted(self._sketches)
        if not where or len({self._sketches[i].shape for i in where}) > 1:
            return []
        drawn = np.stack([self._sketches[i] for i in where])
        count, pair = near_copies(drawn, self._prints[where])
        if pair is None:
            return []
        first, second = (self._dataset[where[i]].source for i in pair)
        what = f"{_of(count, len(where))} are almost copies of another one ({second} of {first})"
        return [Note(_level(count, len(where)), f"{self.name}: {what}")]

    def _scaled_apart(self, seen: np.ndarray) -> list[Note]:
        peaks = self._peaks[seen]
        if not peaks.any():
            return []
        usual = float(np.median(peaks[peaks > 0]))
        odd = seen[(peaks > APART * usual) | ((peaks > 0) & (APART * peaks < usual))]
        if not odd.size:
            return []
        first = int(odd[0])
        what = (
            f"{_of(odd.size, seen.size)} are scaled unlike the rest ({self._dataset[first].source} "
            f"reaches {self._peaks[first]:.3g}, where {usual:.3g} is usual)"
        )
        return [Note("warning", f"{self.name}: {what}")]

    def _arranged(self) -> list[Note]:
        notes = []
        for (name, axis), found in sorted(self._steps.items()):
            means = np.mean([found[i] for i in sorted(found)], axis=0)
            if len(found) >= 4 and is_misplaced(axis, tuple(means)):
                here, there = ("first", "last") if axis == 1 else ("last", "first")
                what = (
                    f"the pictures for the input {name!r} look as if their channels came {there} "
                    f"and were reshaped to come {here}: their axes are to be moved (transposed)"
                )
                notes.append(Note("warning", f"{self.name}: {what}"))
        return notes

    def _classes(self, seen: np.ndarray) -> list[Note]:
        labels = self._labels[seen]
        if len(labels) < FEWEST_LABELS or (labels < 0).any():
            return []
        classes, counts = np.unique(labels, return_counts=True)
        most = int(counts.argmax())
        if len(classes) == 1:
            what = f"all {len(labels)} samples are of class {classes[0]}"
        elif counts[most] > max(0.5, min(0.9, 3 / len(classes))) * len(labels):
            what = f"{_of(int(counts[most]), len(labels))} are of class {classes[most]}"
        else:
            return []
        return [Note("warning", f"{self.name}: {what}; ranges fit what is common there")]

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


def _class(label: Label) -> int:
    """A label as a class number; -1 when it is none."""
    if label is None:
        return -1
    array = np.asarray(label)
    return int(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iu" else -1


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
