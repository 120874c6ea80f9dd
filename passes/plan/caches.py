"""Which caches of a decoder are stored in integers, and with which scales."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from qcompile.core.numerics.affine import SMALLEST_SCALE, limits
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.core.statistics.cache import CacheReach, StepErrors, candidate_steps
from qcompile.passes.decoder.fuse_attention import StoredCache
from qcompile.passes.decoder.records import Decoder

REACH: Final = "cache_reach"
ERRORS: Final = "cache_errors"
TYPES: Final = {"kv8": "int8", "kv4": "int4"}
"""How a cache of the operator is planned; 4 bits lie two a byte in it, 8 above."""
FACTORS: Final = tuple(float(f) for f in np.arange(24, 53) / 48)
"""Parts of a channel's largest magnitude that the highest integer may stand for: 0.5 to 1.08."""


def plan_caches(decoder: Decoder, plan: QuantPlan, cache: str) -> None:
    """Add an entry for each cache, keys and values, without parameters.

    Entries bear the names of the outputs. Scales are symmetric, one a channel of each head: that is
    what ``GroupQueryAttention`` reads, and keys have channels that outgrow the others.
    """
    for layer in decoder.layers:
        for head in (layer.attention.key, layer.attention.value):
            assert head.present is not None
            name = head.present.name or ""
            reason = f"{cache}: stored in {TYPES[cache]}, its channels differ"
            plan.values[name] = ValuePlan(
                name, "cache", TYPES[cache], "channel", axis=1, symmetric=True, reason=reason
            )


def reach_request(plan: QuantPlan) -> StatisticRequest:
    """The first thing to gather: how far each channel reaches."""
    return {name: {REACH: CacheReach} for name in cache_entries(plan)}


def error_request(plan: QuantPlan, statistics: Statistics) -> StatisticRequest:
    """The second: what candidates for a channel's step would lose."""
    request: StatisticRequest = {}
    for name, entry in cache_entries(plan).items():
        reach = statistics[name][REACH]
        assert isinstance(reach, CacheReach)
        low, high = limits(entry.dtype)
        steps = candidate_steps(reach.absmax, high, FACTORS)
        request[name] = {ERRORS: partial(StepErrors, steps, low, high)}
    return request


def choose_caches(plan: QuantPlan, statistics: Statistics) -> None:
    """Set the scales of all caches: for each channel the step with the least squared error."""
    for name, entry in cache_entries(plan).items():
        errors = statistics[name][ERRORS]
        assert isinstance(errors, StepErrors)
        scale = np.maximum(errors.best(), SMALLEST_SCALE)
        params = QuantParams(scale, np.zeros(scale.shape, np.int64))
        plan.values[name] = entry.with_params(params, rule="mse")


def cache_entries(plan: QuantPlan) -> dict[str, ValuePlan]:
    """The entries of a plan that are of caches."""
    return {name: entry for name, entry in plan.values.items() if entry.role == "cache"}


def without_caches(plan: QuantPlan) -> QuantPlan:
    """The plan of everything else."""
    values = {name: entry for name, entry in plan.values.items() if entry.role != "cache"}
    return plan if len(values) == len(plan.values) else replace(plan, values=values)


def stored_caches(plan: QuantPlan) -> Mapping[str, StoredCache]:
    """The caches that have scales, as the operator takes them."""
    return {
        name: StoredCache(4 if entry.dtype == "int4" else 8, entry.params.scale)
        for name, entry in cache_entries(plan).items()
        if entry.params is not None
    }
