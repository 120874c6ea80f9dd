"""GPTQ against the algorithm as published, its promise of a smaller error, and its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.budget import Budget
from qcompile.core.numerics.saturation import extreme_sums
from qcompile.passes.rounding import gptq as module
from qcompile.passes.rounding.bounds import Bounds
from qcompile.passes.rounding.gptq import damped, gptq, strongest_first, weighted_error
from qcompile.passes.rounding.reconstruct import descend, reconstruct

WIDE = Bounds(np.asarray(-127.0), np.asarray(127.0))
NARROW = Bounds(np.asarray(-7.0), np.asarray(7.0))


def case(seed: int, groups: int = 1, depth: int = 12, outputs: int = 5, size: float = 6.0):
    """Weights in steps, and the Gram matrices of inputs that depend on each other."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((groups, depth, depth)) @ rng.standard_normal((groups, depth, 40))
    return rng.uniform(-size, size, (groups, depth, outputs)), x @ x.swapaxes(1, 2)


def published(steps: np.ndarray, hessian: np.ndarray, low: float, high: float) -> np.ndarray:
    """Frantar et al., algorithm 1, one group: by the Cholesky factor of the inverse."""
    upper = np.linalg.cholesky(np.linalg.inv(hessian)).T
    w, q = steps.T.copy(), np.zeros(steps.T.shape)
    for j in range(w.shape[1]):
        q[:, j] = np.clip(np.rint(w[:, j]), low, high)
        error = (w[:, j] - q[:, j]) / upper[j, j]
        w[:, j:] -= error[:, np.newaxis] * upper[j, j:]
    return q.T


@given(seed=st.integers(0, 10**6), depth=st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_it_gives_the_integers_of_the_published_algorithm(seed, depth):
    steps, hessian = case(seed, depth=depth)
    wanted = published(steps[0], damped(hessian)[0], -7, 7)
    assert np.array_equal(gptq(steps, hessian, NARROW)[0], wanted)


def test_blocks_make_no_difference(monkeypatch):
    steps, hessian = case(3, depth=50)
    whole = gptq(steps, hessian, NARROW)
    monkeypatch.setattr(module, "BLOCK", 7)
    assert np.array_equal(gptq(steps, hessian, NARROW), whole)


def test_groups_at_once_are_groups_one_by_one():
    steps, hessian = case(4, groups=6, depth=9, outputs=1)
    at_once = gptq(steps, hessian, NARROW)
    for k in range(6):
        one = gptq(steps[k : k + 1], hessian[k : k + 1], NARROW)
        assert np.array_equal(at_once[k : k + 1], one)
    found = descend(steps, at_once, hessian, NARROW)
    for k in range(6):
        one = descend(steps[k : k + 1], at_once[k : k + 1], hessian[k : k + 1], NARROW)
        assert np.array_equal(found[k : k + 1], one)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_each_step_lowers_the_error(seed):
    steps, hessian = case(seed, groups=2, depth=16)
    weighed = damped(hessian)

    def total(q: np.ndarray) -> np.ndarray:
        assert np.array_equal(q, np.rint(q)) and np.abs(q).max() <= 7
        return weighted_error(steps - q, weighed)

    first = gptq(steps, hessian, NARROW, strongest_first(hessian))
    better = descend(steps, first, weighed, NARROW)
    best = reconstruct(steps, hessian, NARROW)
    assert total(first).sum() < total(np.clip(np.rint(steps), -7, 7)).sum()
    assert np.all(total(better) <= total(first) * (1 + 1e-12))
    assert np.all(total(best) <= total(better) * (1 + 1e-12))


def test_where_a_descent_ends_no_single_integer_can_be_bettered():
    steps, hessian = case(8, depth=10, outputs=3)
    weighed = damped(hessian)
    found = descend(steps, np.clip(np.rint(steps), -7, 7), weighed, NARROW)
    least = weighted_error(steps - found, weighed)
    for j in range(10):
        for step in (-1, 1):
            other = found.copy()
            other[:, j] = np.clip(other[:, j] + step, -7, 7)
            assert np.all(weighted_error(steps - other, weighed) >= least * (1 - 1e-9))


def test_an_order_only_changes_the_order():
    steps, hessian = case(5)
    order = np.random.default_rng(0).permutation(12)
    there = gptq(steps[:, order], hessian[:, order][:, :, order], NARROW)
    assert np.array_equal(gptq(steps, hessian, NARROW, order)[:, order], there)


def test_inputs_that_are_always_zero():
    steps, hessian = case(6)
    hessian[:, 3] = hessian[:, :, 3] = 0
    q = reconstruct(steps, hessian, NARROW)
    assert np.array_equal(q[:, 3], np.rint(steps[:, 3]))
    nothing = np.zeros_like(hessian)
    assert np.array_equal(reconstruct(steps, nothing, NARROW), np.rint(steps))


def test_a_spent_budget_leaves_the_first_solution():
    steps, hessian = case(7)
    first = gptq(steps, hessian, NARROW, strongest_first(hessian))
    assert np.array_equal(reconstruct(steps, hessian, NARROW, Budget(0.0)), first)


@pytest.mark.parametrize("rounder", [gptq, reconstruct])
@pytest.mark.parametrize("products", [2, 4])
def test_sums_that_must_not_saturate(rounder, products):
    """Weights at the very limit: every set of products stays within it, and 7s are still used."""
    rng = np.random.default_rng(2)
    steps, hessian = case(9, depth=30, outputs=40, size=60.0)
    sets = rng.permutation(np.arange(30) // products)
    bounds = Bounds(np.asarray(-127.0), np.asarray(127.0), sets, -90, 89)
    q = rounder(steps, hessian, bounds)
    walked = q[0][np.argsort(sets, kind="stable")].T.astype(np.int64)
    low, high = extreme_sums(walked, 0, "neighbours", products)
    assert low.min() >= -90 and high.max() <= 89
    assert high.max() == 89  # the limit is used
    free_low, free_high = extreme_sums(
        rounder(steps, hessian, WIDE)[0][np.argsort(sets, kind="stable")].T.astype(np.int64),
        0,
        "neighbours",
        products,
    )
    assert free_high.max() > 89 or free_low.min() < -90  # without it they would saturate
