"""Samples that are arrays: in files or in memory, one or many a source."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from qcompile.compiler.data.batches import Rows, split_rows
from qcompile.compiler.data.convert import check_type
from qcompile.compiler.data.dataset import Label, Sample, find_label
from qcompile.compiler.data.feeder import Feeder
from qcompile.compiler.data.files import LazyArray, shape_text
from qcompile.core.errors import Code, QCompileError


@dataclass(frozen=True)
class Source:
    """Named arrays that belong together: one .npz, one item of a list."""

    name: str
    arrays: Mapping[str, LazyArray]
    labels: LazyArray | None = None
    """The label of the one sample, or one a row; when None, an array called ``y`` or ``label``."""


@dataclass(frozen=True)
class _Part:
    """How one source is read."""

    source: Source
    names: Mapping[str, str]
    rows: Mapping[str, Rows]
    count: int
    labels: LazyArray | None

    def read(self, index: int) -> dict[str, np.ndarray]:
        return {
            name: rows.read(
                self.source.arrays[self.names[name]], 0 if rows.form == "whole" else index
            )
            for name, rows in self.rows.items()
        }

    def label(self, index: int) -> Label:
        if self.labels is None:
            return None
        if self.count == 1 and self.labels.shape[:1] != (1,):
            return as_label(self.labels.whole())
        return as_label(self.labels.rows(index, index + 1)[0])

    def where(self, index: int) -> str:
        return self.source.name if self.count == 1 else f"{self.source.name}[{index}]"


class ArrayDataset:
    """Samples of a sequence of sources, in their order.

    Only headers are read to make it; shapes and types of all sources are checked then.

    Args:
        name: what the set is called.
        sources: at least one sample in all.
        feeder: what is done to each sample.

    Raises:
        QCompileError: DATA_EMPTY, DATA_SHAPE, DATA_TYPE, DATA_NAMES or BAD_LABELS,
            naming the source.
    """

    def __init__(self, name: str, sources: Sequence[Source], feeder: Feeder) -> None:
        self.name = name
        self._feeder = feeder
        self._parts = [_part(source, feeder) for source in sources]
        self._ends = list(accumulate(part.count for part in self._parts))
        if not self._ends or not self._ends[-1]:
            counts = (p.rows.items() for p in self._parts)
            none = [n for rows in counts for n, r in rows if r.form != "whole" and not r.count]
            which = f": input {none[0]} is given none" if none else ""
            raise QCompileError(Code.DATA_EMPTY, f"{name} holds no samples{which}")
        self.has_labels = all(part.labels is not None for part in self._parts)
        forms = {
            rows.form == "stacked"
            for part in self._parts
            for input_name, rows in part.rows.items()
            if feeder.batching.axes[input_name] is not None
        }
        if (feeder.batching.size or 1) > 1 and len(forms) > 1:
            raise QCompileError(
                Code.DATA_SHAPE,
                f"{name} mixes whole batches of {feeder.batching.size} with samples",
            )
        self.is_batched = forms == {True}
        """Whether each sample fills the model's batch already."""

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        number = bisect_right(self._ends, index)
        part = self._parts[number]
        row = index - (self._ends[number - 1] if number else 0)
        where = part.where(row)
        return Sample(self._feeder.feed(part.read(row), where), part.label(row), where)


def as_label(value: object) -> Label:
    """A label as a sample carries it: whole numbers become int, the rest an array."""
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "iub":
        return int(array.reshape(())[()])
    return array


def _part(source: Source, feeder: Feeder) -> _Part:
    names = feeder.match(source.arrays, source.name)
    axes = feeder.batching.axes
    rows = {}
    for spec in feeder.signature.inputs:
        if spec.name not in names:
            continue
        array = source.arrays[names[spec.name]]
        where = f"{source.name} (array {names[spec.name]!r})"
        if not feeder.is_raw(spec, array.dtype, where):
            check_type(array.dtype, spec.dtype, where)
        rows[spec.name] = split_rows(spec, axes[spec.name], array.shape, where)
    count = _count(rows, source.name)
    return _Part(source, names, rows, count, _labels(source, names, count))


def _count(rows: Mapping[str, Rows], where: str) -> int:
    counts = {name: r.count for name, r in rows.items() if r.form != "whole"}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise QCompileError(
            Code.DATA_SHAPE, f"{where}: the inputs have different numbers of samples: {listed}"
        )
    return next(iter(counts.values()), 1)


def _labels(source: Source, names: Mapping[str, str], count: int) -> LazyArray | None:
    labels, name = source.labels, "the label"
    if labels is None:
        name = find_label({n: None for n in source.arrays if n not in names.values()}) or ""
        labels = source.arrays.get(name)
    if labels is None or count == 1 or labels.shape[:1] == (count,):
        return labels
    raise QCompileError(
        Code.BAD_LABELS,
        f"{source.name}: {name} has shape {shape_text(labels.shape)} for {count} samples",
    )
