"""Which samples a build uses for what: ranges from these, accuracy on those."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from qcompile.compiler.config import Config
from qcompile.compiler.data.dataset import Dataset, Subset
from qcompile.compiler.data.holdout import hashed_order, split_holdout
from qcompile.compiler.data.lint import Watched
from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions, DataSpec
from qcompile.compiler.data.random_data import random_data
from qcompile.compiler.data.state import check_state, has_state, split_tail, stateful
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.core.signature import Signature

RANDOM_SAMPLES = 32
"""Samples of noise that ``--random-data`` makes."""


_UNUSED = "none: nothing here needs samples"


class _Feeds(Sequence[Mapping[str, np.ndarray]]):
    """Feeds by number, or several by a slice."""

    @overload
    def __getitem__(self, index: int) -> Mapping[str, np.ndarray]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, np.ndarray]]: ...
    def __getitem__(
        self, index: int | slice
    ) -> Mapping[str, np.ndarray] | Sequence[Mapping[str, np.ndarray]]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.one(index)

    def one(self, index: int) -> Mapping[str, np.ndarray]:
        """The feeds of one sample."""
        raise NotImplementedError


class FeedsOf(_Feeds):
    """The feeds of a set of samples, read when they are asked for."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def one(self, index: int) -> Mapping[str, np.ndarray]:
        """The feeds of one sample."""
        return self._dataset[index].feeds


class Remembered(_Feeds):
    """Feeds of which the first ``count`` are kept once read, until they are forgotten.

    For samples that are read again soon, where the second reader would hold them all anyway.

    Args:
        feeds: read when they are asked for.
        count: how many are kept.
        length: how many there are, where the last ones are left out.
    """

    def __init__(
        self, feeds: Sequence[Mapping[str, np.ndarray]], count: int, length: int | None = None
    ) -> None:
        self._feeds = feeds
        self._length = len(feeds) if length is None else length
        self._count = count
        self._kept: dict[int, Mapping[str, np.ndarray]] = {}

    def forget(self) -> None:
        """Let go of the samples, and keep no more."""
        self._count = 0
        self._kept = {}

    def __len__(self) -> int:
        return self._length

    def one(self, index: int) -> Mapping[str, np.ndarray]:
        """The feeds of one sample."""
        if index >= self._length:
            raise IndexError(index)
        found = self._kept.get(index)
        if found is None:
            found = self._feeds[index]
            if 0 <= index < self._count:
                self._kept[index] = found
        return found


@dataclass(frozen=True)
class Samples:
    """The sets of one build."""

    calibration: Watched | None
    """In an order that is as good as random, so that any first part stands for the whole."""
    judged: Dataset | None
    """What accuracy is reported on; it takes no part in the build."""
    described: str
    """Which samples the ranges come from, or why none were needed."""
    judged_described: str
    """Which samples accuracy comes from, or why it was not measured."""
    is_random: bool = False


def choose_samples(
    signature: Signature,
    config: Config,
    data: DataSpec | None,
    eval_data: DataSpec | None,
    *,
    needed: bool,
    random: bool,
    seed: int,
    calibrates: bool = True,
    open_float: Callable[[], Session] | None = None,
) -> Samples:
    """Open the user's sets and divide them.

    Args:
        signature: the ends of the model.
        config: names sets that ``data`` and ``eval_data`` do not, and the preprocessing.
        data: the calibration set, as ``open_data`` takes it.
        eval_data: the set for accuracy; without one a share of ``data`` is held out.
        needed: the scheme cannot be built without calibration samples.
        random: make them up if there are none.
        seed: of the division, the order and the made-up samples.
        calibrates: some decision rests on ``data``, in this build or in the one that made its
            plan. Otherwise all of it is judged, since nothing has seen it.
        open_float: loads the float model, which follows the state of ``[state]``.

    Raises:
        QCompileError: NO_DATA that names the ways to give some; what ``open_data`` raises.
    """
    judged = _open(signature, config, "eval", eval_data, open_float)
    given = _open(signature, config, "calibration", data, open_float)
    if given is None and random:
        made = random_data(signature, RANDOM_SAMPLES, seed)
        return Samples(
            Watched(made),
            judged,
            f"{len(made)} samples of noise" if needed or calibrates else _UNUSED,
            _named(judged) if judged is not None else "there are no real samples",
            is_random=True,
        )
    if given is None:
        if needed:
            raise _no_data()
        return Samples(
            None,
            judged,
            _UNUSED,
            _named(judged) if judged is not None else "no data were given (--eval)",
        )
    if judged is not None:
        used = needed or calibrates
        described = f"{len(given)} samples of {given.name}" if used else _UNUSED
        return Samples(Watched(_shuffled(given, seed)), judged, described, _named(judged))
    if not calibrates:
        every = Watched(_shuffled(given, seed))
        return Samples(every, every, _UNUSED, _named(given))
    if has_state(given):
        rest, held = split_tail(given, config.data.holdout)
    else:
        rest, held = split_holdout(given, seed=seed, fraction=config.data.holdout)
    described = f"{len(rest)} of {len(given)} samples of {given.name}"
    why = (
        f"held out: {len(held)} of {len(given)}"
        if held is not None
        else f"{len(given)} samples are too few to hold some out; give --eval"
    )
    return Samples(Watched(_shuffled(rest, seed)), held, described, why)


def _open(
    signature: Signature,
    config: Config,
    role: str,
    given: DataSpec | None,
    open_float: Callable[[], Session] | None,
) -> Dataset | None:
    source = config.data_source("eval" if role == "eval" else "calibration", given)
    return None if source is None else open_samples(source, signature, config, open_float)


def open_samples(
    source: tuple[DataSpec, DataOptions],
    signature: Signature,
    config: Config,
    open_float: Callable[[], Session] | None,
) -> Dataset:
    """Open a set, and let the float model follow the state that ``[state]`` feeds back.

    Raises:
        QCompileError: BAD_CONFIG for a state that the model does not have; what ``open_data`` and
            the float model raise.
    """
    spec, options = source
    if not config.state or open_float is None:
        return open_data(spec, signature, config.preprocess, options=options)
    check_state(config.state, signature)
    whole = replace(options, limit=None)
    opened = open_data(spec, signature, config.preprocess, options=whole)
    return stateful(opened, open_float, config.state, options.limit)


def _shuffled(dataset: Dataset, seed: int) -> Dataset:
    return Subset(dataset, hashed_order(len(dataset), f"order {seed}"), dataset.name)


def _named(dataset: Dataset) -> str:
    return f"{len(dataset)} samples of {dataset.name}"


def _no_data() -> QCompileError:
    return QCompileError(
        Code.NO_DATA,
        "this scheme finds scales of activations or caches on sample inputs, and there are none",
        hint=(
            "-d FOLDER (pictures, .npy or .npz), -d FILE.npz, -d module:function, or "
            "calibration = ... under [data] in qcompile.toml; --scheme w8a8-dynamic needs none; "
            "--random-data builds something to try out that is unfit to ship"
        ),
    )
