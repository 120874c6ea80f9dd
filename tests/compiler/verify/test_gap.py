"""Differences in steps and in shares, and the numbers that are none."""

import numpy as np
import pytest

from qcompile.compiler.diff.side import Grid
from qcompile.compiler.verify.gap import largest_gap, unequal
from qcompile.core.plan import QuantParams

GRID = Grid("activation", "uint8", QuantParams(np.array(0.5, np.float32), np.array(3)))


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_integers_count_steps() -> None:
    a, b = np.array([0, 255, 7], np.uint8), np.array([255, 0, 7], np.uint8)
    assert largest_gap(a, b, None) == 255
    assert largest_gap(a, b, GRID) == 255
    assert unequal(a, b) == 2


def test_int64_does_not_go_through_floats() -> None:
    a = np.array([2**60], np.int64)
    assert largest_gap(a, a + 1, None) == 1
    assert unequal(a, a + 1) == 1


def test_floats_on_a_grid_count_its_steps() -> None:
    assert largest_gap(floats(1.0, 2.0), floats(1.0, 3.5), GRID) == 3


def test_floats_are_shares_of_the_largest_number() -> None:
    assert largest_gap(floats(1.0, 100.0), floats(1.5, 100.0), None) == pytest.approx(0.005)
    assert largest_gap(floats(0.5), floats(0.0), None) == 0.5, "nothing to be a share of"


def test_numbers_that_are_none() -> None:
    nan, inf = float("nan"), float("inf")
    same = floats(nan, inf, -inf, 1.0)
    assert (largest_gap(same, same, None), unequal(same, same)) == (0.0, 0)
    assert largest_gap(floats(nan), floats(1.0), None) == inf
    assert largest_gap(floats(inf), floats(1.0), GRID) == inf
    assert unequal(floats(nan, 1.0), floats(1.0, nan)) == 2


def test_another_shape_is_all_unequal() -> None:
    a, b = np.zeros((2, 3), np.int8), np.zeros((3, 2), np.int8)
    assert largest_gap(a, b, None) == float("inf")
    assert unequal(a, b) == 6


def test_nothing_is_equal_to_nothing() -> None:
    empty = np.zeros((0, 3), np.float32)
    assert (largest_gap(empty, empty, None), unequal(empty, empty)) == (0.0, 0)
