"""Caches become entries of a plan, each with the grid that loses least."""

import numpy as np
import pytest

from qcompile.core.plan import QuantPlan
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from qcompile.core.statistics.base import Statistics
from qcompile.passes.decoder.find import find_decoder
from qcompile.passes.plan.caches import (
    cache_entries,
    choose_caches,
    error_request,
    is_even,
    key_grids,
    plan_caches,
    reach_request,
    stored_caches,
    without_caches,
)
from tests.decoders import Shape, cache_names, canonical, decoder

SHAPE = Shape(layers=1, size=8)
NAMES = cache_names(SHAPE, "present")


def chosen(cache: str, *, in_operator: bool) -> tuple[QuantPlan, np.ndarray]:
    """The plan, and the numbers that it was made from: channel 3 reaches ten times as far."""
    plan = QuantPlan("f", "t", f"float+{cache}")
    found = find_decoder(canonical(decoder(SHAPE)).graph)
    assert found is not None
    plan_caches(found, plan, cache, in_operator=in_operator)
    x = np.random.default_rng(0).normal(size=(2, 2, 500, 8)).astype(np.float32) + 0.5
    x[..., 3] *= 10
    statistics: Statistics = {}
    for make in (lambda: reach_request(plan), lambda: error_request(plan, statistics)):
        for name, wanted in make().items():
            for kind, factory in wanted.items():
                statistic = factory()
                statistic.update(x, 0)
                statistics.setdefault(name, {})[kind] = statistic
    choose_caches(plan, statistics)
    return plan, x


@pytest.mark.parametrize(("cache", "last"), [("kv8", 127), ("kv4", 7)])
def test_scales_of_the_operator(cache: str, last: int) -> None:
    plan, x = chosen(cache, in_operator=True)
    stored = stored_caches(plan)
    assert list(stored) == NAMES
    assert not key_grids(plan)
    for one in stored.values():
        assert one.bits == int(cache[2:])
        assert one.scale.shape == (16,)
        absmax = np.abs(x).max(axis=(0, 2)).reshape(-1)
        ratio = one.scale * last / absmax
        assert (ratio <= 1.125).all()
        assert (ratio >= 0.25).all()
        assert one.scale[3] > 5 * one.scale[2]
        if last == 7:  # few codes: clipping the rare ones buys smaller steps
            assert ratio.mean() < 0.95


def test_grids_of_plain_operators() -> None:
    plan, x = chosen("kv2", in_operator=False)
    assert not stored_caches(plan)
    grids = key_grids(plan)
    assert list(grids) == NAMES[:1]
    assert plan.values[NAMES[1]].params is None  # values find their scales as the model runs
    low, high = (getattr(x, of)(axis=(0, 2)).reshape(-1) for of in ("min", "max"))
    grid = grids[NAMES[0]]
    assert (grid.lowest > low).all()
    assert (grid.lowest + 3 * grid.step < high).all()


@pytest.mark.parametrize(("cache", "in_operator"), [("kv8", True), ("kv4", True), ("kv2", False)])
def test_entries_are_saved_and_read(cache: str, in_operator: bool) -> None:
    plan, _ = chosen(cache, in_operator=in_operator)
    plan.attention = "GroupQueryAttention" if in_operator else ""
    again, dropped = load_plan(to_json(plan), to_arrays(plan), "plan")
    assert not dropped
    assert again.attention == plan.attention
    assert to_json(again) == to_json(plan)
    for name, entry in cache_entries(plan).items():
        assert (entry.params is None) == (again.values[name].params is None)
    assert not cache_entries(without_caches(plan))


def test_levels_that_are_not_even_are_told() -> None:
    even = np.array([[-1, 0, 1, 2], [0.1, 0.2, 0.3, 0.4]], np.float32)
    assert is_even(even, 4)
    assert not is_even(even, 16)
    assert not is_even(even + np.array([0, 0, 0, 0.1], np.float32), 4)


def test_channels_that_are_always_zero() -> None:
    plan, _ = chosen("kv4", in_operator=True)
    for request in (reach_request(plan),):
        statistics: Statistics = {}
        for name, wanted in request.items():
            for kind, factory in wanted.items():
                statistic = factory()
                statistic.update(np.zeros((1, 2, 5, 8), np.float32), 0)
                statistics.setdefault(name, {})[kind] = statistic
    for name, wanted in error_request(plan, statistics).items():
        for kind, factory in wanted.items():
            statistic = factory()
            statistic.update(np.zeros((1, 2, 5, 8), np.float32), 0)
            statistics[name][kind] = statistic
    choose_caches(plan, statistics)
    assert all((one.scale > 0).all() for one in stored_caches(plan).values())
