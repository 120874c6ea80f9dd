"""The range methods against slow, plain forms of themselves, and what all of them promise."""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qcompile.core.numerics.affine import (
    asymmetric_params,
    dequantize,
    limits,
    quantize,
    symmetric_params,
)
from qcompile.core.statistics.base import Statistic
from qcompile.core.statistics.histogram import Histogram
from qcompile.passes.plan.ranges.entropy import EntropyRange
from qcompile.passes.plan.ranges.method import RangeMethod, masses
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.plan.ranges.mse import MseRange
from qcompile.passes.plan.ranges.percentile import PercentileRange
from qcompile.passes.plan.ranges.table import RANGE_METHODS

METHODS: list[RangeMethod] = [MinMaxRange(), PercentileRange(), EntropyRange(), MseRange()]
KINDS = [("uint8", False), ("int8", False), ("int8", True), ("uint8", True), ("uint4", False)]


def gather(
    method: RangeMethod, samples: list[np.ndarray], nonnegative: bool = False
) -> Mapping[str, Statistic]:
    statistics = {name: make() for name, make in method.statistics(nonnegative).items()}
    for index, sample in enumerate(samples):
        for statistic in statistics.values():
            statistic.update(sample, index)
    return statistics


def choose(
    method: RangeMethod, x: np.ndarray, dtype: str = "uint8", symmetric: bool = False
) -> tuple[float, float]:
    return method.choose(gather(method, [x.astype(np.float32)]), dtype, symmetric)


def squared_error(x: np.ndarray, ends: tuple[float, float], dtype: str, symmetric: bool) -> float:
    """The real mean squared error of quantizing with a range."""
    if symmetric:
        scale, zero_point = symmetric_params(np.float64(max(-ends[0], ends[1])), dtype)
    else:
        scale, zero_point = asymmetric_params(np.float64(ends[0]), np.float64(ends[1]), dtype)
    back = dequantize(quantize(x, scale, zero_point, dtype), scale, zero_point)
    return float(np.mean((back.astype(np.float64) - x) ** 2))


def samples_of(name: str) -> np.ndarray:
    random = np.random.default_rng(5)
    n = 60_000
    laplace = random.laplace(size=n)
    return {
        "normal": random.normal(size=n),
        "laplace": laplace,
        "relu of laplace": np.maximum(laplace, 0),
        "shifted": random.normal(size=n) - 2.5,
        "negative": -random.exponential(size=n),
        "heavy one-sided": np.where(random.random(n) < 1e-4, 60 * random.random(n), laplace),
        "uniform": random.uniform(-1, 1, n),
    }[name].astype(np.float32)


NAMES = [
    "normal",
    "laplace",
    "relu of laplace",
    "shifted",
    "negative",
    "heavy one-sided",
    "uniform",
]


def test_the_table_holds_every_method() -> None:
    assert [type(m) for m in METHODS] == list(RANGE_METHODS.values())


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(("dtype", "symmetric"), KINDS)
@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 50),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
@settings(max_examples=40, deadline=None)
def test_zero_is_inside_and_nothing_unseen(
    method: RangeMethod, dtype: str, symmetric: bool, x: np.ndarray
) -> None:
    low, high = choose(method, x, dtype, symmetric)
    least, most = min([0.0, *x.tolist()]), max([0.0, *x.tolist()])
    assert least <= low <= 0 <= high <= most
    assert high > low or least == most


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize("value", [0.0, 5.0, -5.0, 1e-30])
def test_constants(method: RangeMethod, value: float) -> None:
    x = np.full(100, value, np.float32)
    expected = (min(float(x[0]), 0.0), max(float(x[0]), 0.0))
    assert np.allclose(choose(method, x), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_nonnegative_changes_nothing_where_it_is_true(method: RangeMethod) -> None:
    x = [samples_of("relu of laplace")]
    proven = method.choose(gather(method, x, nonnegative=True), "uint8", False)
    assert proven == method.choose(gather(method, x), "uint8", False)


@pytest.mark.parametrize("name", NAMES)
def test_min_max(name: str) -> None:
    x = samples_of(name)
    assert choose(MinMaxRange(), x) == (min(x.min(), 0), max(x.max(), 0))


@pytest.mark.parametrize("percentile", [99.99, 99.9, 99.0, 90.0])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_percentile(name: str, symmetric: bool, percentile: float) -> None:
    x = samples_of(name)
    low, high = choose(PercentileRange(percentile), x, "int8", symmetric)
    cut = (100 - percentile) / 100 * (1 + 1e-9)
    bin_ = np.ptp(np.append(x, 0)) / 2048  # no bin is wider
    if symmetric:
        end = max(-low, high)
        assert np.mean(np.abs(x) > end) <= cut < np.mean(np.abs(x) > end - 2 * bin_)
        return
    for share, narrower, end in (
        (np.mean(x < low), np.mean(x < low + 2 * bin_), low),
        (np.mean(x > high), np.mean(x > high - 2 * bin_), high),
    ):
        each = cut / 2 if x.min() < 0 < x.max() else cut
        assert share <= each
        assert each < narrower or end == 0


@pytest.mark.parametrize(("dtype", "symmetric"), KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_mse_is_close_to_the_best_of_a_real_search(name: str, dtype: str, symmetric: bool) -> None:
    x = samples_of(name)
    found = squared_error(x, choose(MseRange(), x, dtype, symmetric), dtype, symmetric)
    least, most = min(float(x.min()), 0.0), max(float(x.max()), 0.0)
    shares = np.linspace(0.05, 1.0, 40)
    if symmetric:
        tried = [(-s * max(-least, most), s * max(-least, most)) for s in shares]
    else:
        tried = [(a * least, b * most) for a in shares[::2] for b in shares[::2]]
    best = min(squared_error(x, ends, dtype, symmetric) for ends in tried)
    assert found <= 1.05 * best


def kl_written_out(counts: np.ndarray, begin: int, end: int, levels: int) -> float:
    """Migacz's procedure, bin by bin, for groups that begin and end with the range."""
    p = counts[begin:end].copy()
    p[0] += counts[:begin].sum()
    p[-1] += counts[end:].sum()
    borders = np.rint(np.linspace(begin, end, levels + 1)).astype(int)
    q = np.zeros(end - begin)
    for first, last in pairwise(borders):
        group = slice(first - begin, last - begin)
        occupied = p[group] > 0
        if occupied.any():
            q[group] = np.where(occupied, counts[first:last].sum() / occupied.sum(), 0)
    if q.sum() == 0 or np.any((q == 0) & (p > 0)):
        return np.inf
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum(p[p > 0] * np.log(p[p > 0] / q[p > 0])))


@pytest.mark.parametrize("name", ["relu of laplace", "laplace", "heavy one-sided", "shifted"])
def test_entropy_is_the_published_procedure(name: str) -> None:
    x = samples_of(name)
    method = EntropyRange(candidates=40)
    statistics = gather(method, [x])
    low, high = method.choose(statistics, "uint8", False)
    histogram = statistics["histogram"]
    assert isinstance(histogram, Histogram)
    edges, counts = masses(histogram)
    below = max(round(-edges[0] / histogram.width), 0)
    above = counts.size - below
    least = 128 if below else 256
    tried = np.unique(np.linspace(least, max(below, above), 40).round().astype(int))
    scores = [
        kl_written_out(counts, below - min(t, below), below + min(t, above), 256) for t in tried
    ]
    best = tried[len(scores) - 1 - np.argmin(scores[::-1])] * histogram.width
    assert max(-low, high) == pytest.approx(min(best, np.abs(x).max()), rel=1e-12)
    assert low == pytest.approx(max(-best, min(x.min(), 0)), rel=1e-12)


def test_entropy_clips_rare_outliers_and_keeps_a_uniform_range() -> None:
    outliers, uniform = samples_of("heavy one-sided"), samples_of("uniform")
    low, high = choose(EntropyRange(), outliers, "int8", True)
    assert max(-low, high) < 0.5 * np.abs(outliers).max()
    low, high = choose(EntropyRange(), uniform, "int8", True)
    assert max(-low, high) > 0.97


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(("dtype", "symmetric"), KINDS)
def test_ranges_can_be_quantized_with(method: RangeMethod, dtype: str, symmetric: bool) -> None:
    x = samples_of("laplace")
    low, high = choose(method, x, dtype, symmetric)
    qmin, qmax = limits(dtype)
    assert np.isfinite(squared_error(x, (low, high), dtype, symmetric))
    assert squared_error(x, (low, high), dtype, symmetric) < np.var(x) / (qmax - qmin) ** 0.5
