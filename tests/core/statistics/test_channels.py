"""The statistics a channel: absolute maximum, Gram matrix, mean."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.statistics.base import NotFiniteError, Statistic, StatisticFactory
from qcompile.core.statistics.channel_absmax import ChannelAbsMax
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.channel_square import ChannelSquare
from qcompile.core.statistics.gram import Gram
from tests.core.statistics.splits import assert_split_independent, gather


def draw(seed: int, axis: int, count: int) -> list[np.ndarray]:
    """Samples of 5 channels along the axis, of different sizes elsewhere, some of them empty."""
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(count):
        shape = [1, *random.integers(0, 6, 3)]
        shape[axis] = 5
        samples.append(
            (random.normal(size=shape) * 10.0 ** random.integers(-2, 3)).astype(np.float32)
        )
    return samples


def as_rows(samples: list[np.ndarray], axis: int) -> np.ndarray:
    return np.concatenate([np.moveaxis(s, axis, -1).reshape(-1, 5) for s in samples])


FACTORIES = [ChannelAbsMax, ChannelSquare, Gram, partial(ChannelMean, stop=7)]


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.parametrize("axis", [1, -1])
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
@settings(max_examples=30)
def test_any_split(kind: StatisticFactory, axis: int, seed: int, count: int) -> None:
    assert_split_independent(partial(kind, axis=axis), draw(seed, axis, count), seed)


@pytest.mark.parametrize("axis", [1, -1])
def test_against_numpy(axis: int) -> None:
    samples = draw(3, axis, 9)
    rows = as_rows(samples, axis).astype(np.float64)
    absmax = gather(partial(ChannelAbsMax, axis=axis), samples)
    gram = gather(partial(Gram, axis=axis), samples)
    assert np.array_equal(absmax.absmax, np.abs(rows).max(0))
    square = gather(partial(ChannelSquare, axis=axis), samples)
    np.testing.assert_allclose(square.mean, np.square(rows).mean(0), rtol=1e-6)
    assert gram.rows == len(rows)
    assert np.abs(gram.matrix - rows.T @ rows).max() < 1e-6 * np.abs(rows.T @ rows).max()
    assert np.array_equal(gram.matrix, gram.matrix.T)


@pytest.mark.parametrize("axis", [1, -1])
def test_channel_mean_is_of_the_first_samples(axis: int) -> None:
    samples = draw(5, axis, 12)
    found = gather(partial(ChannelMean, axis=axis, stop=7), samples)
    rows = as_rows(samples[:7], axis).astype(np.float64)
    assert found.count == len(rows)
    assert np.abs(found.mean - rows.mean(0)).max() < 1e-6 * np.abs(rows).max()


def test_a_gram_matrix_may_be_of_the_first_samples() -> None:
    samples = draw(5, 1, 12)
    some = gather(partial(Gram, axis=1, samples=7), samples)
    assert np.array_equal(some.matrix, gather(partial(Gram, axis=1), samples[:7]).matrix)
    assert some.rows == len(as_rows(samples[:7], 1))
    assert_split_independent(partial(Gram, axis=1, samples=7), samples, 3)


def test_nonnegative_absmax() -> None:
    sample = np.random.default_rng(0).random((2, 5, 3, 3), np.float32)
    quick = gather(partial(ChannelAbsMax, nonnegative=True), [sample])
    assert np.array_equal(quick.absmax, gather(ChannelAbsMax, [sample]).absmax)


@pytest.mark.parametrize("kind", FACTORIES)
def test_nothing_seen(kind: StatisticFactory) -> None:
    assert all(array.size in (0, 1) for array in partial(kind, axis=1)().state().values())


@pytest.mark.parametrize("kind", FACTORIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(kind: StatisticFactory, bad: float) -> None:
    sample = np.ones((1, 5, 4, 4), np.float32)
    sample[0, 3, 1, 2] = bad
    statistic: Statistic = partial(kind, axis=1)()
    with pytest.raises(NotFiniteError), np.errstate(invalid="ignore"):
        statistic.update(sample, 0)


def test_channels_must_agree() -> None:
    statistic = ChannelAbsMax(axis=1)
    statistic.update(np.ones((1, 3, 2, 2), np.float32), 0)
    with pytest.raises(ValueError, match="4 channels after 3"):
        statistic.update(np.ones((1, 4, 2, 2), np.float32), 1)
