"""Tables of levels in the records of a plan: what the codes of a weight stand for, readable."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from qcompile.core.numerics.affine import LIMITS, SMALLEST_SCALE
from qcompile.core.plan import QuantParams, ValuePlan


def short_numbers(array: np.ndarray) -> Any:
    """Float32 numbers in the fewest digits that give them back, in lists as deep as the array."""
    if array.ndim > 1:
        return [short_numbers(part) for part in array]
    shortest = [float(str(x)) for x in array.astype(np.float32).reshape(-1)]
    return shortest if array.ndim else shortest[0]


def levels_record(params: QuantParams) -> dict[str, Any]:
    """The keys of parameters with levels; scales that are all 1 are left out."""
    assert params.levels is not None
    record: dict[str, Any] = {"levels": short_numbers(params.levels)}
    return record if np.all(params.scale == 1) else record | {"scale": short_numbers(params.scale)}


def read_levels(entry: ValuePlan, record: Mapping[str, Any]) -> QuantParams:
    """Read what ``levels_record`` wrote, for an entry without parameters.

    Raises:
        ValueError: levels that do not ascend, are too many for the type or of a wrong shape; scales
            that are not positive numbers.
        TypeError: what is no list of numbers.
    """
    levels = _floats(record["levels"])
    by_channel = entry.granularity == "channel"
    most = LIMITS[entry.dtype][1] + 1
    if entry.granularity == "group" or levels.ndim not in ((1, 2) if by_channel else (1,)):
        raise ValueError("levels are a list of numbers, or one a channel")
    if not 1 <= levels.shape[-1] <= most:
        raise ValueError(f"{entry.dtype} has codes for {most} levels, not {levels.shape[-1]}")
    if not np.all(np.isfinite(levels)) or np.any(np.diff(levels, axis=-1) < 0):
        raise ValueError("levels are finite and ascend")
    scale = _floats(record["scale"]) if "scale" in record else None
    if scale is None:
        scale = np.ones(levels.shape[:-1], np.float32)
    if scale.ndim > 1 or (scale.ndim == 1 and not by_channel):
        raise ValueError("with levels a scale is a number, or one a channel")
    if not np.all(np.isfinite(scale) & (scale >= SMALLEST_SCALE)):
        raise ValueError(f"a scale must be finite and at least {SMALLEST_SCALE:.1e}")
    return QuantParams(scale, np.zeros(scale.shape, np.int64), levels)


def _floats(numbers: Any) -> np.ndarray:
    if isinstance(numbers, str | bool):
        raise TypeError(f"{numbers!r} is no list of numbers")
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float64).astype(np.float32)
