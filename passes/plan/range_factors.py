"""Ranges of single activations made narrower or wider than their method chose them."""

from collections.abc import Mapping

import numpy as np

from qcompile.core.numerics.affine import asymmetric_params, limits, symmetric_params, zero_offset
from qcompile.core.plan import Fixed, QuantParams, QuantPlan, Shared, ValuePlan
from qcompile.passes.plan.shared_groups import resolve_shared


def scale_ranges(plan: QuantPlan, factors: Mapping[str, float]) -> None:
    """Multiply both ends of the range of some activations, in place.

    Members of a shared group follow their leader; values whose parameters a kernel sets, and
    names that a plan does not have, are passed over.

    Args:
        plan: with the parameters of its activations set.
        factors: value name -> positive factor.
    """
    for name, factor in factors.items():
        entry = plan.quantized(name)
        if entry is not None and is_free(entry):
            plan.values[name] = entry.with_params(
                _scaled(entry, factor), rule=f"{entry.rule} x {factor:g}"
            )
    resolve_shared(plan)


def is_free(entry: ValuePlan) -> bool:
    """Whether an entry is an activation whose range is its own to choose."""
    return entry.role == "activation" and not isinstance(entry.relation, Fixed | Shared)


def _scaled(entry: ValuePlan, factor: float) -> QuantParams:
    assert entry.params is not None
    scale = np.asarray(entry.params.scale, np.float64)
    low, high = limits(entry.dtype)
    if entry.symmetric:
        most = scale * (high - zero_offset(entry.dtype)) * factor
        return QuantParams(*symmetric_params(most, entry.dtype))
    zero = entry.params.zero_point
    ends = ((low - zero) * scale * factor, (high - zero) * scale * factor)
    return QuantParams(*asymmetric_params(*ends, entry.dtype))
