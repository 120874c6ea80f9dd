"""What every statistic promises: the same bytes however the samples are split and merged."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from qcompile.core.statistics.base import Statistic, StatisticFactory

FINITE = {"allow_nan": False, "allow_infinity": False}


def sequences(values: st.SearchStrategy[np.ndarray]) -> st.SearchStrategy[list[np.ndarray]]:
    return st.lists(values, min_size=1, max_size=12)


def gather(factory: StatisticFactory, samples: Sequence[np.ndarray]) -> Statistic:
    whole = factory()
    for index, sample in enumerate(samples):
        whole.update(sample, index)
    return whole


def assert_split_independent(
    factory: StatisticFactory, samples: Sequence[np.ndarray], seed: int
) -> Statistic:
    """Compare one pass in order with parts of random samples in random order, merged randomly."""
    random = np.random.default_rng(seed)
    parts = [factory() for _ in range(random.integers(1, 5))]
    for index in random.permutation(len(samples)):
        parts[random.integers(len(parts))].update(samples[index], int(index))
    while len(parts) > 1:
        other = parts.pop(random.integers(len(parts)))
        parts[random.integers(len(parts))].merge(other)
    whole = gather(factory, samples)
    assert_same_bytes(whole.state(), parts[0].state())
    return whole


def assert_same_bytes(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype, name
        assert a[name].shape == b[name].shape, name
        assert a[name].tobytes() == b[name].tobytes(), name
