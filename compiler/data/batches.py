"""How an array becomes runs of the model, by comparing its shape with the declared one.

For an input declared with rank r, whose batch dimension (if it has one) is at ``axis``:

1. rank r, a batch dimension: a batch; every element of it is a sample of batch 1.
2. rank r, no batch dimension: exactly one run, shared by all samples of the file.
3. rank r+1: stacked runs, each fed as it stands.
4. rank r-1, a batch dimension: one sample whose batch dimension is added.

A fixed batch of B > 1 is then filled with B samples of batch 1 each (``Grouped``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from qcompile.compiler.data.dataset import Dataset, Label, Sample
from qcompile.compiler.data.files import LazyArray, shape_text
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from qcompile.core.signature import Dim, Signature, TensorSpec

Form = Literal["batch", "whole", "stacked", "bare"]


@dataclass(frozen=True)
class Batching:
    """Where the batch dimension of each input is, and its size where the model fixes it."""

    axes: dict[str, int | None]
    size: int | None


@dataclass(frozen=True)
class Rows:
    """The samples that one array holds for one input."""

    form: Form
    count: int
    axis: int = 0

    def read(self, array: LazyArray, index: int) -> np.ndarray:
        """Sample ``index`` with its batch dimension, in the array's own type."""
        if self.form == "whole":
            return array.whole()
        if self.form == "bare":
            return np.expand_dims(array.whole(), self.axis)
        if self.form == "stacked":
            return np.asarray(array.rows(index, index + 1)[0])
        if self.axis == 0:
            return array.rows(index, index + 1)
        return np.asarray(np.take(array.whole(), [index], self.axis))


def batching(signature: "Signature") -> Batching:
    """Find the batch dimension of each input.

    It is the first dimension of the first input that has a named or unknown first dimension, else
    of the first input with any. Another input has it where it carries the same name, else at its
    first dimension when that is open too, or the same number. Inputs of unknown shape count as a
    batch along their first dimension.
    """
    ranked = [spec for spec in signature.inputs if spec.shape is None or len(spec.shape)]
    if not ranked:
        return Batching({spec.name: None for spec in signature.inputs}, None)
    lead = next((s for s in ranked if not isinstance(_first(s), int)), ranked[0])
    batch = _first(lead)
    axes = {spec.name: _axis(spec, batch) for spec in signature.inputs}
    return Batching(axes, batch if isinstance(batch, int) else None)


def split_rows(spec: "TensorSpec", axis: int | None, shape: tuple[int, ...], where: str) -> Rows:
    """Tell how an array of this shape feeds an input.

    Args:
        spec: the declared input.
        axis: its batch dimension, None when it has none.
        shape: the array's.
        where: file and input, for messages.

    Raises:
        QCompileError: DATA_SHAPE saying what was got and what is expected.
    """
    if spec.shape is None and not shape:
        return Rows("whole", 1)
    declared = spec.shape if spec.shape is not None else (None,) * len(shape)
    rank = len(declared)
    open_batch = tuple(None if i == axis else d for i, d in enumerate(declared))
    if len(shape) == rank and axis is None and _fits(shape, declared):
        return Rows("whole", 1)
    if len(shape) == rank and axis is not None and _fits(shape, open_batch):
        return Rows("batch", shape[axis], axis)
    if len(shape) == rank + 1 and _fits(shape[1:], declared):
        return Rows("stacked", shape[0])
    if axis is not None and _fits(shape, declared[:axis] + declared[axis + 1 :]):
        return Rows("bare", 1, axis)
    raise wrong_shape(spec, shape, where)


def wrong_shape(spec: "TensorSpec", shape: Sequence[int], where: str) -> QCompileError:
    """The error for an array that cannot feed an input."""
    expected = shape_text(spec.shape or ())
    return QCompileError(
        Code.DATA_SHAPE,
        f"{where} has shape {shape_text(shape)}, but the input {spec.name!r} is {expected}",
        hint=_shape_hint(spec, shape),
    )


class Grouped:
    """Runs of ``size`` samples each, joined along the batch dimension of every input.

    Samples that do not fill a last run are left out; a group's label is the array of its labels.
    Texts of different lengths are filled up behind where the model has a mask to say so.
    """

    def __init__(self, dataset: Dataset, size: int, axes: dict[str, int | None]) -> None:
        if len(dataset) < size:
            raise QCompileError(
                Code.DATA_EMPTY,
                f"{dataset.name} has {len(dataset)} samples, fewer than a batch of {size}",
                hint="give more samples, or fix the batch to 1 with --shape",
            )
        self._dataset, self._size, self._axes = dataset, size, axes
        self._pads = any("mask" in name for name in axes)
        self.name, self.has_labels = dataset.name, dataset.has_labels

    def __len__(self) -> int:
        return len(self._dataset) // self._size

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        first = index * self._size
        parts = [self._dataset[i] for i in range(first, first + self._size)]
        feeds = {name: self._join(name, [p.feeds[name] for p in parts]) for name in parts[0].feeds}
        return Sample(feeds, _labels(parts), f"{parts[0].source} and {self._size - 1} more")

    def _join(self, name: str, arrays: list[np.ndarray]) -> np.ndarray:
        axis = self._axes.get(name)
        if axis == 0 and self._pads:
            arrays = _equally_long(arrays)
        if axis is not None and len({x.shape for x in arrays}) > 1:
            raise QCompileError(
                Code.DATA_SHAPE,
                f"{self.name}: {name} of samples that share a batch has different shapes, "
                f"{shape_text(arrays[0].shape)} first",
                hint="fix the batch to 1 with --shape",
            )
        return arrays[0] if axis is None else np.concatenate(arrays, axis)


def _equally_long(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Rows of tokens filled up with zeros behind, which their masks say to be padding."""
    most = max(x.shape[-1] if x.ndim else 0 for x in arrays)
    rows = all(x.ndim == 2 and x.dtype.kind in "iu" for x in arrays)
    if not rows or all(x.shape[-1] == most for x in arrays):
        return arrays
    return [np.pad(x, ((0, 0), (0, most - x.shape[-1]))) for x in arrays]


def _labels(parts: list[Sample]) -> Label:
    if any(part.label is None for part in parts):
        return None
    return np.array([part.label for part in parts])


def _first(spec: "TensorSpec") -> "Dim":
    return spec.shape[0] if spec.shape else None


def _axis(spec: "TensorSpec", batch: "Dim") -> int | None:
    if spec.shape is None:
        return 0
    if isinstance(batch, str) and batch in spec.shape:
        return spec.shape.index(batch)
    if not spec.shape:
        return None
    first = spec.shape[0]
    same = first == batch if isinstance(batch, int) else not isinstance(first, int)
    return 0 if same else None


def _fits(shape: Sequence[int], declared: Sequence["Dim"]) -> bool:
    return len(shape) == len(declared) and all(
        size == dim or not isinstance(dim, int) for size, dim in zip(shape, declared, strict=True)
    )


def _shape_hint(spec: "TensorSpec", shape: Sequence[int]) -> str | None:
    if spec.shape is None or len(spec.shape) != 4 or len(shape) not in (3, 4):
        return None
    *_, a, b, c = shape
    for swapped, order in (((c, a, b), "0, 3, 1, 2"), ((b, c, a), "0, 2, 3, 1")):
        if _fits(swapped, spec.shape[1:]):
            return f"the channels are elsewhere: transpose the arrays with ({order})"
    return None
