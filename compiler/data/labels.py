"""Labels that do not come with the samples: a label file, or a pattern on the file's name."""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from qcompile.compiler.data.arrays import as_label
from qcompile.compiler.data.dataset import Dataset, Label, Sample
from qcompile.compiler.data.files import open_npy
from qcompile.compiler.data.listing import Listed, Listing
from qcompile.core.errors import Code, QCompileError


class Labelled:
    """A set with the labels that were given for it, one a sample."""

    has_labels = True

    def __init__(self, dataset: Dataset, labels: Sequence[int] | np.ndarray, where: str) -> None:
        if len(labels) != len(dataset):
            raise QCompileError(
                Code.BAD_LABELS,
                f"{where} has {len(labels)} labels, but {dataset.name} has {len(dataset)} samples",
            )
        self.name = dataset.name
        self._dataset, self._labels = dataset, labels

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        label: Label = as_label(self._labels[index])
        return replace(sample, label=label)


def label_by_pattern(listing: Listing, pattern: str) -> Listing:
    r"""Take each file's label from its name.

    Args:
        listing: the files.
        pattern: a regular expression searched in the file's own name; its first group, or all that
            matches, is the class index (``^(\d+)_`` for ``0007_n01518878.jpg``).

    Raises:
        QCompileError: BAD_CONFIG for a bad pattern, BAD_LABELS naming the first file it fails on.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise QCompileError(
            Code.BAD_CONFIG, f"label_pattern {pattern!r} is not a regular expression: {error}"
        ) from error
    return Listing(listing.name, tuple(_from_name(f, compiled) for f in listing.files))


def label_by_table(listing: Listing, table: Mapping[str, int], where: str) -> Listing:
    """Take each file's label from a table of names (see ``read_labels``).

    Raises:
        QCompileError: BAD_LABELS naming the first file that is not in it.
    """
    return Listing(listing.name, tuple(_from_table(f, table, where) for f in listing.files))


def read_labels(path: Path) -> dict[str, int] | np.ndarray:
    """Read a label file.

    Either lines ``name,label`` (a table of names), one class index a line, or an .npy array with
    one label a row. A first line without a number is a heading.

    Raises:
        QCompileError: DATA_NOT_FOUND, DATA_UNREADABLE, or BAD_LABELS naming the line.
    """
    if not path.is_file():
        raise QCompileError(Code.DATA_NOT_FOUND, f"there is no label file {path}")
    if path.suffix.lower() == ".npy":
        return open_npy(path).whole()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [
                (n, row) for n, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{path} cannot be read: {error}") from error
    if rows and not _is_index(rows[0][1][-1]):
        rows = rows[1:]
    if not rows:
        raise QCompileError(Code.BAD_LABELS, f"{path} holds no labels")
    parsed = [_row(row, f"{path}, line {number}") for number, row in rows]
    if len({name is None for name, _ in parsed}) > 1:
        raise QCompileError(Code.BAD_LABELS, f"{path} has names on some lines only")
    if parsed[0][0] is None:
        return np.array([label for _, label in parsed], np.int64)
    return {name: label for name, label in parsed if name is not None}


def _row(row: Sequence[str], where: str) -> tuple[str | None, int]:
    cells = [cell.strip() for cell in row]
    if len(cells) > 2 or not _is_index(cells[-1]):
        raise QCompileError(
            Code.BAD_LABELS,
            f"{where}: {','.join(row)!r} is neither `label` nor `name,label`",
            hint="labels are class indices: the position of the class in the model's output",
        )
    return (cells[0] if len(cells) == 2 else None), int(cells[-1])


def _is_index(cell: str) -> bool:
    return cell.strip().removeprefix("-").isdecimal()


def _from_table(file: Listed, table: Mapping[str, int], where: str) -> Listed:
    short = file.name.rpartition("/")[2]
    for name in (file.name, short, Path(short).stem):
        if name in table:
            return replace(file, label=table[name])
    raise QCompileError(Code.BAD_LABELS, f"{where} has no label for {file.name}")


def _from_name(file: Listed, pattern: re.Pattern[str]) -> Listed:
    found = pattern.search(file.name.rpartition("/")[2])
    text = "" if found is None else (found[1] if pattern.groups else found[0])
    if text is None or not _is_index(text):
        raise QCompileError(
            Code.BAD_LABELS,
            f"label_pattern {pattern.pattern!r} finds no class index in the name {file.name}",
        )
    return replace(file, label=int(text))
