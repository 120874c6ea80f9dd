"""The user's own metric, ``module:function``: called with what both models said.

The function is called once for each model::

    def metric(outputs, samples): ...
    def metric(outputs, samples, reference): ...  # if it asks for the float model's outputs too

``outputs[i]`` is a dict of the model's outputs by name, ``samples[i]`` the sample they belong to
(``.feeds``, ``.label``, ``.source``). Both have a length, and can be walked through more than once:
outputs lie in a temporary file, so memory does not grow with the samples. It returns, and **higher
is better**:

- a number; or
- an array with one score a sample: their mean is the figure, and its spread is reported too; or
- a dict of either, by the name of the figure.
"""

import inspect
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from qcompile.compiler.data.callables import failed_line, load_callable
from qcompile.compiler.data.dataset import Dataset, Sample
from qcompile.compiler.data.files import Held, LazyArray, Scratch, Stored
from qcompile.compiler.report.accuracy import OwnFigure
from qcompile.compiler.verify.spread import paired_spread
from qcompile.core.errors import Code, QCompileError

MetricFunction = Callable[..., Any]
"""See the top of this file."""

_RETURNS = "return a number, an array with one number a sample, or a dict of either by name"


class Outputs(Sequence[dict[str, np.ndarray]]):
    """What one model said to each sample, in a temporary file."""

    def __init__(self, names: Sequence[str], count: int) -> None:
        self._names = names
        self._rows: list[list[LazyArray] | None] = [None] * count
        self._scratch = Scratch()
        self._path = self._scratch.new_file()
        self._end = 0
        self._lock = threading.Lock()

    def put(self, index: int, arrays: Sequence[np.ndarray]) -> None:
        """Keep the outputs of one sample; may be called from several threads."""
        with self._lock, self._path.open("ab") as file:
            row: list[LazyArray] = []
            for array in arrays:
                if array.dtype.hasobject:  # texts: they are few and small
                    row.append(Held(array))
                    continue
                data = np.ascontiguousarray(array).tobytes()
                row.append(
                    Stored(self._path, array.shape, array.dtype, self._end, owner=self._scratch)
                )
                file.write(data)
                self._end += len(data)
            self._rows[index] = row

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, np.ndarray]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> dict[str, np.ndarray] | list[dict[str, np.ndarray]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self._rows[index] or []
        return {name: array.whole() for name, array in zip(self._names, row, strict=True)}


class _Samples(Sequence[Sample]):
    """A data set as a sequence that can be walked through."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self._dataset[index % len(self)]


@dataclass(frozen=True)
class UserMetric:
    """A function of the user's that scores a model."""

    name: str
    function: MetricFunction

    def figures(
        self, reference: Outputs, candidate: Outputs, samples: Dataset
    ) -> tuple[OwnFigure, ...]:
        """Score both models.

        Args:
            reference: what the float model said.
            candidate: what the artefact said, under the float model's names.
            samples: what they were fed.

        Raises:
            QCompileError: BAD_METRIC when the function raises, or returns what is no score.
        """
        before = self.scores(reference, samples, reference)
        return self.compared(before, self.scores(candidate, samples, reference))

    def compared(
        self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
    ) -> tuple[OwnFigure, ...]:
        """The figures of what ``scores`` gave for the float model and for the artefact.

        Raises:
            QCompileError: BAD_METRIC when the names differ.
        """
        if before.keys() != after.keys():
            raise self._bad(
                f"named {_listed(before)} for the float model and {_listed(after)} for the artefact"
            )
        return tuple(_figure(name, before[name], after[name]) for name in before)

    def scores(
        self, outputs: Outputs, samples: Dataset, reference: Outputs
    ) -> dict[str, np.ndarray]:
        """One model's figures by name; each a scalar, or an array (samples,).

        Args:
            outputs: what the model said.
            samples: what it was fed.
            reference: what the float model said.

        Raises:
            QCompileError: BAD_METRIC when the function raises, or returns what is no score.
        """
        try:
            asked = "reference" in inspect.signature(self.function).parameters
        except ValueError:  # a function written in C has no signature
            asked = False
        more = {"reference": reference} if asked else {}
        try:
            value = self.function(outputs, _Samples(samples), **more)
        except QCompileError:
            raise
        except Exception as error:
            raise QCompileError(
                Code.BAD_METRIC,
                f"{self.name} raised {type(error).__name__}: {error}{failed_line(error)}",
                hint="it is called as function(outputs, samples), and gets reference= too if it "
                "has a parameter of that name",
            ) from error
        named = value if isinstance(value, Mapping) else {self._short: value}
        if not named:
            raise self._bad("returned an empty dict")
        return {str(key): self._score(str(key), one, len(samples)) for key, one in named.items()}

    def _score(self, name: str, value: object, samples: int) -> np.ndarray:
        try:
            array = np.asarray(value)
        except ValueError as error:  # a ragged list
            raise self._bad(f"returned for {name} what is no array: {error}") from error
        if array.dtype.kind not in "iufb" or value is None:
            raise self._bad(f"returned {type(value).__name__} for {name}")
        if array.shape not in {(), (samples,)}:
            raise self._bad(
                f"returned an array of shape {array.shape} for {name}, with {samples} samples"
            )
        if not np.isfinite(array).all():
            raise self._bad(f"returned a number for {name} that is NaN or infinite")
        return array.astype(np.float64)

    @property
    def _short(self) -> str:
        return self.name.rpartition(":")[2]

    def _bad(self, what: str) -> QCompileError:
        return QCompileError(Code.BAD_METRIC, f"{self.name} {what}", hint=_RETURNS)


def load_metric(given: str | MetricFunction | None, folder: Path) -> UserMetric | None:
    """The metric that an option or the configuration names; None when none is.

    Args:
        given: ``module:function``, ``path/file.py:function``, or the function itself.
        folder: where the module is looked for first.

    Raises:
        QCompileError: BAD_METRIC when it cannot be loaded.
    """
    if given is None:
        return None
    if not isinstance(given, str):
        return UserMetric(getattr(given, "__name__", type(given).__name__), given)
    try:
        return UserMetric(given, load_callable(given, folder))
    except QCompileError as error:
        raise QCompileError(Code.BAD_METRIC, f"metric: {error.message}", hint=error.hint) from error


def _figure(name: str, before: np.ndarray, after: np.ndarray) -> OwnFigure:
    low = high = None
    if before.ndim and after.ndim:
        low, high = (100.0 * end for end in paired_spread(before, after))
    return OwnFigure(
        metric=name,
        float_value=float(before.mean()),
        artefact_value=float(after.mean()),
        drop_low=low,
        drop_high=high,
    )


def _listed(named: Mapping[str, object]) -> str:
    return ", ".join(named)
