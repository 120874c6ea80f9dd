"""The scales of grouped weights in the arrays of a plan: too many numbers for its JSON.

The JSON holds a digest in their place, so that arrays which are missing or another plan's are
noticed.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from qcompile.core.numerics.affine import LIMITS, SMALLEST_SCALE, zero_offset
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.plan_records import params_digest

SCALE: Final = "scale/"
ZERO_POINT: Final = "zero_point/"
"""What the names of such arrays begin with."""


def group_arrays(plan: QuantPlan) -> dict[str, np.ndarray]:
    """The scales and zero points of all grouped weights; symmetric ones have no zero points."""
    found = {}
    for name, entry in _grouped(plan):
        if entry.params is None:
            continue
        found[SCALE + name] = entry.params.scale.astype(np.float32)
        if (entry.params.zero_point != zero_offset(entry.dtype)).any():
            found[ZERO_POINT + name] = entry.params.zero_point.astype(np.uint8)
    return dict(sorted(found.items()))


def stated_digests(document: Mapping[str, Any]) -> dict[str, str]:
    """Value name -> digest of its scales, as the JSON of a plan says."""
    return {
        name: record["scales"]
        for name, record in document["values"].items()
        if record.get("granularity") == "group" and "scales" in record
    }


def read_groups(
    plan: QuantPlan, stored: Mapping[str, np.ndarray], stated: Mapping[str, str]
) -> str | None:
    """Give the grouped weights of a plan their scales; what is wrong with them, or None.

    Args:
        plan: as its JSON says; completed in place.
        stored: the arrays beside it.
        stated: digests of the scales, as the JSON says.
    """
    for name, entry in _grouped(plan):
        if name not in stated:
            continue
        scale = stored.get(SCALE + name)
        if scale is None:
            return f"the scales of {name} are not in the .npz beside it"
        zero = stored.get(ZERO_POINT + name)
        if zero is None:
            zero = np.full(scale.shape, zero_offset(entry.dtype), np.int64)
        if not _are_fit(entry, scale, zero):
            return f"the arrays hold scales of {name} that cannot be"
        params = QuantParams(scale, zero.astype(np.int64))
        if params_digest(params) != stated[name]:
            return f"the scales of {name} in the .npz beside it are those of another plan"
        plan.values[name] = entry.with_params(params)
    return None


def _grouped(plan: QuantPlan) -> Iterator[tuple[str, ValuePlan]]:
    return ((n, v) for n, v in list(plan.values.items()) if v.granularity == "group")


def _are_fit(entry: ValuePlan, scale: np.ndarray, zero: np.ndarray) -> bool:
    low, high = LIMITS[entry.dtype]
    return (
        scale.dtype == np.float32
        and scale.ndim == 2
        and scale.shape == zero.shape
        and zero.dtype.kind in "iu"
        and bool(np.all(np.isfinite(scale) & (np.abs(scale) >= SMALLEST_SCALE)))
        and bool(np.all((zero >= low) & (zero <= high)))
    )
