"""Proofs about saturating sums, against brute force over every extreme activation."""

from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.affine import quantize, symmetric_params
from qcompile.core.numerics.saturation import (
    KINDS,
    channels_at_risk,
    columns,
    extreme_sums,
    groups,
    kind_of,
    safe_scales,
    sum_limits,
)
from qcompile.core.target import Saturation

AVX2 = Saturation(products=2, low=-32768, high=32767, activation_high=255)
QUADS = Saturation(products=4, low=-32768, high=32767, activation_high=127)
INT8 = st.integers(-128, 127)


def matrices(elements: st.SearchStrategy[float], deepest: int = 7) -> st.SearchStrategy[np.ndarray]:
    """(out, depth) arrays."""
    return st.integers(1, deepest).flatmap(
        lambda depth: st.lists(
            st.lists(elements, min_size=depth, max_size=depth), min_size=1, max_size=4
        ).map(np.array)
    )


def overflows(weights: tuple[int, ...], saturation: Saturation) -> bool:
    """Whether some activations of {0, high} take one group's sum out of range; brute force."""
    ends = (0, saturation.activation_high)
    sums = [
        sum(a * int(w) for a, w in zip(activations, weights, strict=True))
        for activations in product(ends, repeat=len(weights))
    ]
    return min(sums) < saturation.low or max(sums) > saturation.high


def at_risk_by_force(row: np.ndarray, pairing: str, saturation: Saturation) -> bool:
    n = saturation.products
    padded = [*row.tolist(), *[0] * (-len(row) % n)]
    if pairing == "neighbours":
        met = [tuple(padded[i : i + n]) for i in range(0, len(padded), n)]
    else:
        met = list(combinations([*padded, *[0] * n], n))
    return any(overflows(group, saturation) for group in met)


@pytest.mark.parametrize("saturation", [AVX2, QUADS], ids=["pairs", "quads"])
@pytest.mark.parametrize("pairing", ["neighbours", "any"])
@given(weight=matrices(INT8))
def test_at_risk_exactly_where_some_activations_overflow(
    weight: np.ndarray, pairing: str, saturation: Saturation
) -> None:
    expected = [at_risk_by_force(row, pairing, saturation) for row in weight]
    assert channels_at_risk(weight, 0, pairing, saturation).tolist() == expected


@given(weight=matrices(INT8))
def test_any_is_at_least_as_strict_as_neighbours(weight: np.ndarray) -> None:
    neighbours = channels_at_risk(weight, 0, "neighbours", AVX2)
    assert not (neighbours & ~channels_at_risk(weight, 0, "any", AVX2)).any()
    assert not channels_at_risk(weight, 0, "none", AVX2).any()


def rounded(weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return quantize(weight, scale, np.zeros(scale.shape, np.int64), "int8", 0)


@pytest.mark.parametrize("saturation", [AVX2, QUADS], ids=["pairs", "quads"])
@pytest.mark.parametrize("pairing", ["neighbours", "any"])
@given(weight=matrices(st.floats(-4, 4, width=32), deepest=12))
def test_safe_scales_are_safe_and_the_smallest(
    weight: np.ndarray, pairing: str, saturation: Saturation
) -> None:
    weight = weight.astype(np.float32)
    scale, _ = symmetric_params(np.abs(weight).max(axis=1), "int8")
    safe = safe_scales(weight, scale, 0, pairing, saturation)
    assert safe.dtype == np.float32
    assert (safe >= scale).all()
    assert not channels_at_risk(rounded(weight, safe), 0, pairing, saturation).any()
    raised = safe > scale
    step_down = np.where(raised, np.nextafter(safe, np.float32(0)), safe)
    at_risk = channels_at_risk(rounded(weight, step_down), 0, pairing, saturation)
    assert at_risk[raised].all(), "a smaller scale would do"
    at_first = channels_at_risk(rounded(weight, scale), 0, pairing, saturation)
    assert (at_first == raised).all(), "only channels at risk are touched"


def test_the_limits_of_avx2() -> None:
    assert sum_limits(AVX2) == (-128, 128)
    pairs = np.array([[64, 64], [65, 64], [-64, -64], [-65, -64], [127, -127], [127, 1], [127, 2]])
    expected = [False, True, False, True, False, False, True]
    assert channels_at_risk(pairs, 0, "neighbours", AVX2).tolist() == expected


def test_a_convolution_is_walked_channels_last() -> None:
    weight = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    walked = columns(weight, 0)
    assert walked.shape == (2, 1, 12)
    assert walked[0, 0].tolist() == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]
    assert groups(weight, 0, 2)[0].tolist()[:3] == [[0, 4], [8, 1], [5, 9]]


def test_a_matrix_is_walked_down_its_rows_whichever_way_it_lies() -> None:
    weight = np.arange(10).reshape(5, 2)
    assert groups(weight, 1, 2)[0].tolist() == [[0, 2], [4, 6], [8, 0]]
    assert np.array_equal(groups(weight, 1, 2), groups(np.ascontiguousarray(weight.T), 0, 2))


def test_a_stack_of_matrices_pairs_within_each() -> None:
    weight = np.zeros((2, 3, 1), np.int8)
    weight[0, 2] = weight[1, 0] = 127  # next to each other only across the border
    low, high = extreme_sums(weight, 2, "neighbours")
    assert (low.tolist(), high.tolist()) == ([0], [127])
    assert extreme_sums(weight, 2, "any")[1].tolist() == [254]


def test_an_inner_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="no output axis"):
        columns(np.zeros((2, 3, 4)), 1)


def test_an_unknown_pairing_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown pairing 'pairs'"):
        extreme_sums(np.zeros((2, 2)), 0, "pairs")


@pytest.mark.parametrize(
    ("op", "shape", "group", "kind"),
    [
        ("Conv", (8, 4, 3, 3), 1, "conv"),
        ("Conv", (8, 4, 1, 1), 1, "conv"),
        ("Conv", (8, 2, 3, 3), 2, "grouped"),
        ("Conv", (8, 1, 3, 3), 8, "depthwise"),
        ("Conv", (16, 1, 3, 3), 8, "grouped"),
        ("Gemm", (8, 4), 1, "gemm"),
        ("MatMul", (8, 4), 1, "matmul"),
        ("Add", (8,), 1, None),
    ],
)
def test_kinds(op: str, shape: tuple[int, ...], group: int, kind: str | None) -> None:
    assert kind_of(op, shape, group) == kind
    assert kind is None or kind in KINDS


def test_zero_and_empty_weights_are_safe() -> None:
    scale = np.ones(2, np.float32)
    for weight in (np.zeros((2, 5), np.float32), np.zeros((2, 0), np.float32)):
        assert not channels_at_risk(weight.astype(np.int8), 0, "any", AVX2).any()
        assert np.array_equal(safe_scales(weight, scale, 0, "any", AVX2), scale)
