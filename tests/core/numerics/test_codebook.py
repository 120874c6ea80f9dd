"""Tables of levels: k-means against brute force, powers of two, and codes that are the nearest."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompile.core.numerics.codebook import (
    kmeans_rows,
    kmeans_table,
    nearest_codes,
    of_levels,
    power_levels,
    power_scales,
)

WEIGHTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=3, min_side=1, max_side=6),
    elements=st.floats(-8, 8, width=32),
)


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(5, size=shape).astype(np.float32)


def error(weight: np.ndarray, levels: np.ndarray, counts: np.ndarray | None = None) -> float:
    wrong = np.square(of_levels(nearest_codes(weight, levels), levels) - weight, dtype=np.float64)
    return float((wrong if counts is None else wrong * counts).sum())


def best_error(numbers: np.ndarray, counts: np.ndarray, entries: int) -> float:
    """The optimum by trying every division of the sorted numbers into intervals."""
    order = np.argsort(numbers)
    x, c = numbers[order].astype(np.float64), counts[order]
    found = np.inf
    for ends in itertools.combinations(range(1, x.size), entries - 1):
        total = 0.0
        for first, last in itertools.pairwise((0, *ends, x.size)):
            part, weight = x[first:last], c[first:last]
            total += float((weight * (part - np.average(part, weights=weight)) ** 2).sum())
        found = min(found, total)
    return found


@pytest.mark.parametrize("entries", [2, 3, 4])
@pytest.mark.parametrize("seed", range(6))
def test_kmeans_is_near_the_optimum(entries: int, seed: int) -> None:
    weight = rand(14, seed=seed)
    counts = np.random.default_rng(seed).uniform(0.5, 2, 14)
    optimum = best_error(weight, counts, entries)
    got = error(weight, kmeans_table(weight, entries, counts), counts)
    assert optimum * (1 - 1e-6) <= got <= 1.35 * optimum + 1e-9


def test_many_numbers_reach_what_is_known_of_the_normal_distribution() -> None:
    weight = np.random.default_rng(0).normal(size=300_000).astype(np.float32)
    for entries, wanted in ((2, 0.3634), (4, 0.1175), (8, 0.03454), (16, 0.009497)):
        got = error(weight, kmeans_table(weight, entries)) / weight.size
        assert got == pytest.approx(wanted, rel=0.01)  # J. Max, Quantizing for minimum distortion


def test_a_table_a_row_is_the_table_of_the_row() -> None:
    weight = rand(5, 400)
    rows = kmeans_rows(weight, 8)
    for row, levels in zip(weight, rows, strict=True):
        assert error(row, levels) == pytest.approx(error(row, kmeans_table(row, 8)), rel=0.05)


def test_a_number_that_counts_more_is_kept_better() -> None:
    weight, counts = rand(2000), np.ones(2000)
    counts[weight > 1.5] = 100.0
    plain, heavy = kmeans_table(weight, 4), kmeans_table(weight, 4, counts)
    assert error(weight, heavy, counts) < 0.8 * error(weight, plain, counts)
    assert error(weight, heavy) > error(weight, plain)


@given(WEIGHTS, st.sampled_from([2, 4, 16, 256]))
def test_few_numbers_are_exact_and_tables_ascend(weight: np.ndarray, entries: int) -> None:
    for levels in (kmeans_table(weight, entries), *kmeans_rows(weight.reshape(1, -1), entries)):
        assert levels.shape == (entries,)
        assert levels.dtype == np.float32
        assert np.all(np.diff(levels) >= 0)
        if np.unique(weight).size == 1:
            assert error(weight, levels) <= 1e-9 * weight.size


@given(WEIGHTS, st.integers(2, 9), st.integers(0, 2**16))
def test_codes_are_the_nearest(weight: np.ndarray, entries: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    axis = int(rng.integers(weight.ndim))
    table = np.sort(rng.normal(size=(weight.shape[axis], entries)).astype(np.float32), 1)
    for levels, along in ((table[0], None), (table, axis)):
        codes = nearest_codes(weight, levels, along)
        assert codes.dtype == np.uint8
        assert codes.shape == weight.shape
        got = np.abs(of_levels(codes, levels, along) - weight)
        per_row = levels[:, None] if along is None else levels.T.reshape(
            entries, *(weight.shape[axis] if i == axis else 1 for i in range(weight.ndim))
        )  # fmt: skip
        per_row = per_row.reshape(entries, *([1] * weight.ndim)) if along is None else per_row
        assert np.all(got <= np.abs(per_row - weight).min(axis=0) + 1e-5)


def test_the_same_weights_give_the_same_bytes() -> None:
    weight = rand(64, 300)
    assert kmeans_table(weight, 16).tobytes() == kmeans_table(weight.copy(), 16).tobytes()
    assert kmeans_rows(weight, 4).tobytes() == kmeans_rows(weight[:], 4).tobytes()


def test_powers_of_two() -> None:
    assert power_levels(2).tolist() == [-1, 0, 1]
    assert power_levels(3).tolist() == [-1, -0.5, -0.25, 0, 0.25, 0.5, 1]
    assert power_levels(4).size == 15
    weight = power_levels(4) * np.float32(0.7)
    (scale,) = power_scales(weight[None], 4)
    assert error(weight / scale, power_levels(4)) < 1e-10
    assert power_scales(np.zeros((2, 3), np.float32), 4).tolist() == [1, 1]


@settings(max_examples=30)
@given(st.integers(0, 2**16), st.sampled_from([2, 3, 4]))
def test_the_scale_of_powers_is_searched(seed: int, bits: int) -> None:
    rows = rand(3, 50, seed=seed)
    levels, scales = power_levels(bits), power_scales(rows, bits)
    for row, scale in zip(rows, scales, strict=True):
        top = np.abs(row).max()
        here = error(row / scale, levels) * scale**2
        assert here <= error(row / top, levels) * top**2 * (1 + 1e-5)
