"""The histogram's counts are those of bins of the final width, whatever came first."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompile.core.statistics.base import NotFiniteError
from qcompile.core.statistics.histogram import BINS, FLAT_STEP, SMALLEST_EXPONENT, Histogram
from tests.core.statistics.splits import FINITE, assert_split_independent, gather, sequences

WILD = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=2, max_side=5, min_side=0),
    elements=st.floats(width=32, **FINITE),
)
TAME = hnp.arrays(
    np.float32, st.integers(0, 40), elements=st.floats(-100, 100, width=32, allow_subnormal=False)
)


def counted(every: np.ndarray, exponent: int) -> dict[int, int]:
    bins, counts = np.unique(
        np.floor(every.astype(np.float64) * 2.0**-exponent), return_counts=True
    )
    return dict(zip(bins.astype(int).tolist(), counts.tolist(), strict=True))


@given(st.one_of(sequences(WILD), sequences(TAME)), st.integers(0, 2**32 - 1))
@example([np.float32([3e38]), np.float32([-1e-45, 1e-45])], 1)
@example([np.float32([-3.99]), np.float32([-4.0]), np.float32([0.0])], 0)
def test_any_split(samples: list[np.ndarray], seed: int) -> None:
    found = assert_split_independent(Histogram, samples, seed)
    every = np.concatenate([s.ravel() for s in samples])
    if not every.size:
        assert found.counts.size == 0
        return
    exponent, first = int(found.state()["exponent"]), int(found.state()["first"])
    bins = {first + k: int(n) for k, n in enumerate(found.counts) if n}
    assert bins == counted(every, exponent)
    assert found.zeros == np.sum(every == 0)
    assert found.counts[0] > 0
    assert found.counts[-1] > 0
    finer = counted(every, exponent - 1)
    assert found.counts.size <= BINS
    assert (
        exponent == SMALLEST_EXPONENT
        or max(finer) - min(finer) >= BINS
        or max(map(abs, finer)) >= BINS
    ), "the bins are wider than they need be"


def test_a_wide_range_uses_more_than_half_of_the_bins() -> None:
    found = gather(Histogram, [np.float32([0.0, 6.0])])
    assert BINS / 2 < found.counts.size <= BINS
    assert found.edges[0] == 0.0
    assert found.edges[-2] == 6.0
    assert found.width == 2.0**-9


def test_pictures_are_looked_at_on_a_grid() -> None:
    sample = np.random.default_rng(0).random((1, 24, 112, 112), np.float32)
    found = Histogram()
    found.update(sample, 0)
    direct = Histogram()
    direct.count(sample[:, :, ::4, ::4], 16)
    assert np.array_equal(found.counts, direct.counts)
    assert found.counts.sum() == sample.size


@pytest.mark.parametrize(
    ("shape", "step"),
    [
        ((1, 24, 112, 112), 4),
        ((1, 384, 14, 14), 4),
        ((1, 768, 7, 7), 3),
        ((1, 256, 7, 7), 2),
        ((9, 16, 16, 16), 1),
        ((1, 768, 1, 1), 1),
        ((1, 8192), 1),
        ((1, 64, 1001), 1),
        ((16, 128, 384), FLAT_STEP),
    ],
)
def test_small_tensors_are_looked_at_closely(shape: tuple[int, ...], step: int) -> None:
    assert Histogram().grid(shape) == step
    assert Histogram(every=1).grid(shape) == 1


def test_flat_steps_keep_the_distribution() -> None:
    sample = np.random.default_rng(0).normal(size=(16, 128, 384)).astype(np.float32)
    sample[:, :, 7] *= 40
    some, every = gather(Histogram, [sample]), gather(lambda: Histogram(every=1), [sample])

    def beyond(histogram: Histogram) -> float:
        far = np.abs(histogram.edges[:-1]) > 10
        return float(histogram.counts[far].sum() / histogram.counts.sum())

    assert abs(beyond(some) / beyond(every) - 1) < 0.05


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite(bad: float) -> None:
    with pytest.raises(NotFiniteError):
        Histogram().update(np.float32([1, bad, 2]), 0)
