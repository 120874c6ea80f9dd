"""GPTQ for groups: its errors are ordered, its codes in range, its scales fitted as it goes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.passes.rounding.group_gptq import (
    Grid,
    Rounded,
    descend,
    feedback,
    gptq_groups,
    nearest,
    output_error,
)


def _layer(rows: int, columns: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A weight, and the Gram matrix of inputs that hang together."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((rows, rows)) / np.sqrt(rows) + np.eye(rows)
    inputs = random.standard_normal((8 * rows, rows)) @ mixing
    weight = random.standard_normal((rows, columns)).astype(np.float32)
    return weight, (inputs.T @ inputs / len(inputs)).astype(np.float32)


def _error(weight: np.ndarray, gram: np.ndarray, made: Rounded, grid: Grid) -> float:
    return output_error(weight - made.weight(grid), gram)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [False, True])
def test_each_step_leaves_less_error(bits: int, symmetric: bool) -> None:
    """Nearest, GPTQ, descent; 150 rows in groups of 64, so that the last one is short."""
    weight, gram = _layer(150, 40)
    grid = Grid(bits, 64, symmetric)
    plain = nearest(weight, grid, np.diagonal(gram))
    rounded = gptq_groups(weight, feedback(gram), grid)
    better = descend(weight, gram, rounded, grid, sweeps=3)
    errors = [_error(weight, gram, made, grid) for made in (plain, rounded, better)]
    assert errors[1] < 0.85 * errors[0]
    assert errors[2] < errors[1]
    for made in (plain, rounded, better):
        assert made.codes.dtype == np.uint8
        assert made.codes.max() < 2**bits
        assert made.params.scale.shape == made.params.zero_point.shape == (3, 40)
        assert made.params.zero_point.min() >= 0
        assert made.params.zero_point.max() < 2**bits


def test_one_group_longer_than_a_block() -> None:
    """A scale a column: updates by whole products inside a group change nothing but the time."""
    weight, gram = _layer(300, 12)
    grid = Grid(4, 300)
    rounded = gptq_groups(weight, feedback(gram), grid)
    assert _error(weight, gram, rounded, grid) < 0.8 * _error(
        weight, gram, nearest(weight, grid, np.diagonal(gram)), grid
    )
    assert rounded.params.scale.shape == (1, 12)


def test_no_correlation_no_change() -> None:
    """Where inputs do not hang together there is nothing to make good for: nearest codes."""
    weight, _ = _layer(64, 9)
    gram = np.diag(np.linspace(1, 2, 64))
    grid = Grid(4, 32)
    rounded = gptq_groups(weight, feedback(gram), grid)
    plain = nearest(weight, grid, np.diagonal(gram) + 0.01 * 1.5)
    assert np.array_equal(rounded.codes, plain.codes)


def test_columns_do_not_depend_on_one_another() -> None:
    """So that they can be rounded in any parts."""
    weight, gram = _layer(96, 16)
    grid, back = Grid(3, 32), feedback(gram)

    whole = gptq_groups(weight, back, grid).weight(grid)
    parts = [gptq_groups(weight[:, i : i + 4], back, grid).weight(grid) for i in range(0, 16, 4)]
    apart = np.concatenate(parts, axis=1)
    assert np.mean(np.abs(whole - apart) > 1e-5) < 0.02  # sums of another order round another way


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 70), st.integers(1, 33), st.sampled_from((2, 4)), st.integers(0, 2**31))
def test_descent_never_loses(rows: int, group: int, bits: int, seed: int) -> None:
    """By the damped error that it descends on, for any shape."""
    weight, gram = _layer(rows, 5, seed)
    grid = Grid(bits, group)
    damped = gram + 0.01 * np.mean(np.diagonal(gram)) * np.eye(rows)
    start = nearest(weight, grid)
    better = descend(weight, gram, start, grid, sweeps=2)
    before, after = (_error(weight, damped, made, grid) for made in (start, better))
    assert after <= before * (1 + 1e-4) + 1e-9


def test_dead_inputs_do_no_harm() -> None:
    """Inputs that were always zero, all of them or some."""
    weight, gram = _layer(32, 6)
    gram[:, :5] = gram[:5] = 0
    grid = Grid(4, 16)
    for one in (gram, np.zeros_like(gram)):
        made = gptq_groups(weight, feedback(one), grid)
        assert np.isfinite(made.weight(grid)).all()


@pytest.mark.parametrize("bits", [2, 4])
def test_narrow_grids_keep_to_codes_from_one(bits: int) -> None:
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(64, 12)).astype(np.float32)
    x = rng.normal(size=(400, 64)).astype(np.float32)
    gram, grid = x.T @ x, Grid(bits, 32, symmetric=True, narrow=True)
    made = gptq_groups(weight, feedback(gram), grid)
    better = descend(weight, gram, made, grid, sweeps=2)
    for rounded in (nearest(weight, grid), made, better):
        assert rounded.codes.min() >= 1
        assert (rounded.params.scale > 0).all()
        assert (rounded.params.zero_point == 1 << (bits - 1)).all()
    errors = [output_error(weight - r.weight(grid), gram) for r in (nearest(weight, grid), better)]
    assert errors[1] < errors[0]
