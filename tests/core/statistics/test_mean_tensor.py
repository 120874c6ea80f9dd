"""MeanTensor keeps one mean a shape, of the first samples, split-independent to the byte."""

from functools import partial

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.statistics.mean_tensor import MOST_SHAPES, MeanTensor
from tests.core.statistics.splits import assert_split_independent, gather


def draw(seed: int, count: int, shapes: int) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    sizes = random.integers(1, shapes + 1, count)
    return [
        (random.normal(size=(1, n, 2)) * 10.0 ** random.integers(-3, 4)).astype("f") for n in sizes
    ]


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 12), st.integers(0, 40))
def test_any_split(seed: int, count: int, shapes: int, stop: int) -> None:
    samples = draw(seed, count, shapes)
    found = assert_split_independent(partial(MeanTensor, stop), samples, seed)
    sizes = sorted({s.shape for s in samples[:stop]})
    assert list(found.means) == sizes[:MOST_SHAPES]
    assert found.ignored == sum(s.shape in sizes[MOST_SHAPES:] for s in samples[:stop])


def test_against_numpy() -> None:
    samples = [np.random.default_rng(k).normal(size=(1, 3, 8, 8)).astype("f") for k in range(20)]
    mean, count = gather(partial(MeanTensor, 13), samples).means[1, 3, 8, 8]
    assert (mean.dtype, count) == (np.float32, 13)
    exact = np.mean(np.asarray(samples[:13], np.float64), axis=0)
    assert np.abs(mean - exact).max() < 4e-7


def test_few_tensors_are_alive_whatever_the_order_of_shapes() -> None:
    statistic, most = MeanTensor(64), 0
    for index, sample in enumerate(draw(1, 64, 4)):
        statistic.update(sample, index)
        most = max(most, sum(tree.held for tree in statistic._sums.values()))
    assert most <= 4 * 3


def test_samples_are_not_changed() -> None:
    samples = draw(2, 16, 1)
    before = [s.copy() for s in samples]
    gather(partial(MeanTensor, 16), samples)
    assert all(np.array_equal(a, b) for a, b in zip(samples, before, strict=True))
