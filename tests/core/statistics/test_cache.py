"""Reach and rounding errors of keys and values: those of plain arithmetic, however it is split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.statistics.base import NotFiniteError
from qcompile.core.statistics.cache import CacheReach, GridErrors, by_channel


def samples(count: int, seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = rng.integers(0, 4, count)
    return [rng.normal(size=(2, 3, n, 4)).astype(np.float32) for n in shapes]


def test_channels_are_heads_times_size() -> None:
    x = np.arange(24).reshape(1, 2, 3, 4)
    assert (by_channel(x)[5] == x[0, 1, :, 1]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 99))
def test_any_split_gives_the_same(count: int, cut: int, seed: int) -> None:
    data = samples(count, seed)
    lowest = np.full((5, 12), -1, np.float32)
    step = np.linspace(0.1, 1, 60, dtype=np.float32).reshape(5, 12)
    for make in (CacheReach, lambda: GridErrors(lowest, step, 3)):
        whole, one, two = make(), make(), make()
        for i, x in enumerate(data):
            whole.update(x, i)
            (one if i < cut else two).update(x, i)
        two.merge(one)  # type: ignore[arg-type]
        for name, array in whole.state().items():
            assert array.tobytes() == two.state()[name].tobytes()


def test_the_reach() -> None:
    reach = CacheReach()
    assert reach.ends.shape == (2, 0)
    for i, x in enumerate((np.full((1, 1, 2, 2), 3.0), np.array([[[[-1, 5.0]]]]))):
        reach.update(x.astype(np.float32), i)
    assert reach.ends.tolist() == [[-1, 3], [3, 5]]
    with pytest.raises(NotFiniteError):
        reach.update(np.array([[[[np.nan, 0]]]], np.float32), 2)


def test_errors_are_those_of_rounding() -> None:
    x = np.array([0.0, 0.4, 0.5, 1.5, 9.0], np.float32).reshape(1, 1, 5, 1)
    lowest, step = np.array([[0.0], [0.5]], np.float32), np.array([[1.0], [2.0]], np.float32)
    errors = GridErrors(lowest, step, 3)
    errors.update(x, 0)
    first = np.array([0, 0.4, 0.5, 0.5, 6])  # halves to even: 0.5 -> 0, 1.5 -> 2; 9 -> 3
    second = np.array([0.5, 0.1, 0, 1.0, 2.5])  # 0.5 below; 1.5 is half a step up, to 0.5
    wanted = [np.square(first).sum(), np.square(second).sum()]
    assert errors.errors[:, 0] == pytest.approx(wanted, abs=1e-6)
    lowest_best, step_best = errors.best()
    assert (lowest_best[0], step_best[0]) == (0.5, 2.0)
