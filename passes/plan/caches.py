"""Which caches of a decoder are stored in integers, and with which scales."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE, limits
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.cache import CacheReach, GridErrors
from qcompile.passes.decoder.fuse_attention import StoredCache
from qcompile.passes.decoder.records import Decoder
from qcompile.passes.decoder.store_caches import GROUP, KeyGrid

REACH: Final = "cache_reach"
ERRORS: Final = "cache_errors"
IN_OPERATOR: Final = {"kv8": "int8", "kv4": "int4"}
"""Types of caches that ``GroupQueryAttention`` holds; 4 bits lie two a byte in it, 8 above."""
IN_PLAIN: Final = {"kv4": "uint4", "kv2": "uint2"}
"""Types of caches that plain operators pack (``passes.decoder.store_caches``)."""
FACTORS: Final = np.arange(6, 28, dtype=np.float32) / 24
"""Parts of a channel's reach that a grid may span: a quarter to an eighth more than all of it."""


def plan_caches(decoder: Decoder, plan: QuantPlan, cache: str, *, in_operator: bool) -> None:
    """Add an entry for each cache, keys and values, without parameters.

    Entries bear the names of the outputs. In the operator scales are symmetric, one a channel of
    each head. Of plain operators' caches the keys have a grid a channel, and values find theirs as
    the model runs, one a token and group of channels: such an entry never has parameters.
    """
    kind = (IN_OPERATOR if in_operator else IN_PLAIN)[cache]
    fixed = ValuePlan("", "cache", kind, "channel", axis=1, symmetric=in_operator)
    for layer in decoder.layers:
        keys, values = layer.attention.key, layer.attention.value
        for head in (keys, values):
            assert head.present is not None
            name = head.present.name or ""
            entry = replace(fixed, name=name, reason=f"{cache}: its channels differ in reach")
            if head is values and not in_operator:
                why = f"{cache}: a scale a token and {GROUP} channels, found as the model runs"
                entry = ValuePlan(name, "cache", kind, reason=why)
            plan.values[name] = entry


def reach_request(plan: QuantPlan) -> StatisticRequest:
    """The first thing to gather: how far each channel reaches."""
    return {name: {REACH: CacheReach} for name in _calibrated(plan)}


def error_request(plan: QuantPlan, statistics: Statistics) -> StatisticRequest:
    """The second: what candidates for a channel's grid would lose."""
    request: StatisticRequest = {}
    for name, entry in _calibrated(plan).items():
        reach = statistics[name][REACH]
        assert isinstance(reach, CacheReach)
        request[name] = {ERRORS: partial(GridErrors, *_candidates(entry, *reach.ends))}
    return request


def _candidates(
    entry: ValuePlan, low: np.ndarray, high: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Lowest and step of grids, float32 (grids, channels), and the last code."""
    first, last = limits(entry.dtype)
    factors = FACTORS[:, None]
    if entry.symmetric:
        step = _positive(factors * np.maximum(-low, high) / np.float32(last))
        return first * step, step, last - first
    middle, half = (high + low) / 2, (high - low) / 2
    step = _positive(factors * half * np.float32(2 / last))
    return middle - step * np.float32(last / 2), step, last


def _positive(step: np.ndarray) -> np.ndarray:
    positive: np.ndarray = np.maximum(step, SMALLEST_SCALE).astype(np.float32)
    return positive


def choose_caches(plan: QuantPlan, statistics: Statistics) -> None:
    """Set the grids of caches: for each channel the one with the least squared error."""
    for name, entry in _calibrated(plan).items():
        errors = statistics[name][ERRORS]
        assert isinstance(errors, GridErrors)
        lowest, step = errors.best()
        zero = np.zeros(step.shape, np.int64)
        if entry.symmetric:
            params = QuantParams(step, zero)
        else:
            codes = np.arange(limits(entry.dtype)[1] + 1, dtype=np.float32)
            levels = (lowest[:, None] + codes * step[:, None]).astype(np.float32)
            params = QuantParams(np.ones(step.shape, np.float32), zero, levels)
        plan.values[name] = entry.with_params(params, rule="mse")


def cache_entries(plan: QuantPlan) -> dict[str, ValuePlan]:
    """The entries of a plan that are of caches."""
    return {name: entry for name, entry in plan.values.items() if entry.role == "cache"}


def _calibrated(plan: QuantPlan) -> dict[str, ValuePlan]:
    """Those with parameters from samples."""
    return {n: entry for n, entry in cache_entries(plan).items() if entry.granularity == "channel"}


def without_caches(plan: QuantPlan) -> QuantPlan:
    """The plan of everything else."""
    values = {name: entry for name, entry in plan.values.items() if entry.role != "cache"}
    return plan if len(values) == len(plan.values) else replace(plan, values=values)


def stored_caches(plan: QuantPlan) -> Mapping[str, StoredCache]:
    """The caches with scales that the operator stores, as it takes them."""
    return {
        name: StoredCache(4 if entry.dtype == "int4" else 8, entry.params.scale)
        for name, entry in cache_entries(plan).items()
        if entry.params is not None and entry.symmetric
    }


def is_even(levels: np.ndarray, count: int) -> bool:
    """Whether levels (channels, count) are as far apart as the grids of plain operators demand."""
    if levels.ndim != 2 or levels.shape[1] != count:
        return False
    steps = np.diff(levels.astype(np.float64), axis=1)
    slack = 1e-5 * np.abs(levels).max(axis=1, keepdims=True) + 1e-4 * steps.max(axis=1)[:, None]
    return bool((np.abs(steps - steps.mean(axis=1, keepdims=True)) <= slack).all())


def key_grids(plan: QuantPlan) -> Mapping[str, KeyGrid]:
    """The grids of keys that plain operators store."""
    grids = {}
    for name, entry in cache_entries(plan).items():
        levels = None if entry.params is None else entry.params.levels
        if levels is not None:
            step = (levels[:, -1] - levels[:, 0]) / np.float32(levels.shape[1] - 1)
            grids[name] = KeyGrid(levels[:, 0], step)
    return grids
