"""Recurrent state: samples of a sequence in their order, each fed what the one before it gave.

``[state] "OUTPUT" = "INPUT"`` says which output is the next sample's input. The rows of one array,
the rows of one file, or the items of one function are a sequence; another file is another sequence.
Each begins with zeros, or with the value that ``[data.constants]`` gives the input. The float model
runs every sequence once, in order, and the states it met go to a temporary file; from then on
samples are read by index like any others, with the state that float had before them. So ranges,
corrections and scores see real states. Where accuracy is judged an artefact is fed its own state
(``OwnState``), as it will be in use.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from qcompile.compiler.data.batches import Grouped
from qcompile.compiler.data.dataset import Dataset, Sample, Subset
from qcompile.compiler.data.files import Scratch
from qcompile.compiler.data.holdout import SMALLEST_SET
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds, Session
from qcompile.core.signature import Signature, TensorSpec

_ROW: Final = re.compile(r"\[\d+\]$")
"""What names a row in the name of a sample's source."""


@dataclass(frozen=True)
class Place:
    """Where a sample stands in its sequence, and what is fed back there."""

    sequence: str
    index: int
    """Of the sample in its set: the next one of the sequence has the next number."""
    state: Mapping[str, str]
    """Output -> the input that takes it at the next sample."""


class PlacedFeeds(dict[str, np.ndarray]):
    """Feeds that know their place in a sequence."""

    def __init__(self, feeds: Feeds, place: Place) -> None:
        super().__init__(feeds)
        self.place = place


class Stateful:
    """A set whose samples carry the state that the float model had before them.

    All sequences are run once when it is made, in order, which no threads can share.

    Args:
        dataset: samples in the order of their sequences, the first state in each.
        session: the float model.
        state: output -> input.

    Raises:
        QCompileError: what reading or running a sample raises.
    """

    def __init__(self, dataset: Dataset, session: Session, state: Mapping[str, str]) -> None:
        self.name, self.has_labels = dataset.name, dataset.has_labels
        self._dataset, self._state = dataset, dict(state)
        self._scratch = Scratch()
        self._files = {name: self._scratch.new_file() for name in state.values()}
        self._stored: dict[str, list[tuple[int, np.dtype[np.generic], tuple[int, ...]]]] = {
            name: [] for name in state.values()
        }
        self._follow(session)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._dataset[index]
        states = {name: self._read(name, index) for name in self._files}
        place = Place(sequence_of(sample.source), index, self._state)
        return Sample(PlacedFeeds({**sample.feeds, **states}, place), sample.label, sample.source)

    def _follow(self, session: Session) -> None:
        files = {name: path.open("wb") for name, path in self._files.items()}
        try:
            sequence, state = "", dict[str, np.ndarray]()
            for index in range(len(self._dataset)):
                sample = self._dataset[index]
                if (own := sequence_of(sample.source)) != sequence:
                    sequence, state = own, {}
                feeds = {**sample.feeds, **state}
                for name, file in files.items():
                    array = np.ascontiguousarray(feeds[name])
                    self._stored[name].append((file.tell(), array.dtype, feeds[name].shape))
                    file.write(array.tobytes())
                state = _next_state(session, feeds, self._state)
        finally:
            for file in files.values():
                file.close()

    def _read(self, name: str, index: int) -> np.ndarray:
        offset, dtype, shape = self._stored[name][index]
        count = int(np.prod(shape, dtype=np.int64))
        return np.fromfile(self._files[name], dtype, count, offset=offset).reshape(shape)


class OwnState:
    """A session that is fed the state it gave itself, wherever one sample follows another.

    Samples must be run in order. The first of a sequence, and one whose predecessor was not run
    just before, is fed as it is given; so is all that has no place in a sequence.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._last: Place | None = None
        self._next: dict[str, np.ndarray] = {}

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs."""
        return self._session.input_names

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the outputs."""
        return self._session.output_names

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Run once."""
        place = feeds.place if isinstance(feeds, PlacedFeeds) else None
        if place is None:
            return self._session.run(feeds)
        last = self._last
        follows = last is not None and (last.sequence, last.index + 1) == (
            place.sequence, place.index,
        )  # fmt: skip
        fed = {**feeds, **self._next} if follows else dict(feeds)
        outputs = self._session.run(fed)
        named = dict(zip(self._session.output_names, outputs, strict=True))
        self._next = {into: named[output] for output, into in place.state.items()}
        self._last = place
        return outputs


def has_state(samples: Dataset) -> bool:
    """Whether samples stand in sequences."""
    return len(samples) > 0 and isinstance(samples[0].feeds, PlacedFeeds)


def sequence_of(source: str) -> str:
    """The name of the sequence that a sample is of: its source without the row."""
    return _ROW.sub("", source)


def stateful(
    dataset: Dataset, open_float: Callable[[], Session], state: Mapping[str, str], limit: int | None
) -> Dataset:
    """The set with its states, the first ``limit`` samples of it: others would tear sequences.

    Raises:
        QCompileError: BAD_CONFIG for a model with a fixed batch that joins samples.
    """
    if isinstance(dataset, Grouped):
        raise QCompileError(
            Code.BAD_CONFIG,
            "[state] needs samples that follow on each other, and the model joins several in a "
            "batch",
            hint="fix the batch to 1 with --shape, or give arrays of whole batches",
        )
    if limit is not None and limit < len(dataset):
        dataset = Subset(dataset, range(limit), dataset.name)
    return Stateful(dataset, open_float(), state)


def split_tail(dataset: Dataset, fraction: float) -> tuple[Dataset, Dataset | None]:
    """The last part of a set held out, since samples that follow on each other stay together."""
    count = len(dataset)
    if count < SMALLEST_SET:
        return dataset, None
    cut = count - min(max(round(count * fraction), 1), count - 1)
    return (
        Subset(dataset, range(cut), dataset.name),
        Subset(dataset, range(cut, count), f"{dataset.name} (held out)"),
    )


def check_state(state: Mapping[str, str], signature: Signature) -> None:
    """Hold ``[state]`` to the ends of the model.

    Raises:
        QCompileError: BAD_CONFIG naming an end that is missing, taken twice, or does not fit.
    """
    for output, into in state.items():
        made, taken = (
            _end(output, signature.outputs, "output"),
            _end(into, signature.inputs, "input"),
        )
        if made.dtype != taken.dtype or not _fit(made, taken):
            raise _bad(f"output {made} cannot be fed back to input {taken}")
    twice = [into for into in state.values() if list(state.values()).count(into) > 1]
    if twice:
        raise _bad(f"input {twice[0]!r} takes two outputs")


def _fit(made: TensorSpec, taken: TensorSpec) -> bool:
    if made.shape is None or taken.shape is None:
        return True
    pairs = zip(made.shape, taken.shape, strict=False)
    return len(made.shape) == len(taken.shape) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in pairs
    )


def _end(name: str, ends: Sequence[TensorSpec], what: str) -> TensorSpec:
    for end in ends:
        if end.name == name:
            return end
    known = ", ".join(end.name for end in ends)
    raise _bad(f"{name!r} is not an {what} of the model", f"its {what}s are {known}")


def _next_state(session: Session, feeds: Feeds, state: Mapping[str, str]) -> dict[str, np.ndarray]:
    outputs = dict(zip(session.output_names, session.run(feeds), strict=True))
    return {into: outputs[output] for output, into in state.items()}


def _bad(message: str, hint: str | None = None) -> QCompileError:
    return QCompileError(Code.BAD_CONFIG, f"[state] {message}", hint=hint)
