"""The same plan in another integer type of the same width."""

from dataclasses import replace
from typing import Final

from qcompile.core.numerics.affine import is_signed, zero_offset
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.target import Target

_BYTES: Final = frozenset({"uint8", "int8"})


def retyped(plan: QuantPlan, target: Target, ends: str) -> QuantPlan:
    """A plan whose activations have the type of ``target``.

    U8 and S8 hold the same numbers: ``q_s8 = q_u8 - 128``, the scale stays, the zero point moves by
    128. Weights and biases, whose types the targets share, stay as they are, and so do the
    corrections, which are real numbers, and the int16 values of wide nodes.

    Args:
        plan: made for the intersection of several targets.
        target: one of them.
        ends: type of the ends in its artefact.
    """
    values = {
        name: _retyped(entry, target.activations.dtype) for name, entry in plan.values.items()
    }
    return replace(plan, target=target.name, ends=ends, values=values)


def _retyped(entry: ValuePlan, dtype: str) -> ValuePlan:
    if (
        entry.role != "activation"
        or entry.dtype not in _BYTES
        or is_signed(entry.dtype) == is_signed(dtype)
    ):
        return entry
    if entry.params is None:
        return replace(entry, dtype=dtype)
    shift = zero_offset(dtype) - zero_offset(entry.dtype)
    params = QuantParams(entry.params.scale, entry.params.zero_point + shift)
    return replace(entry, dtype=dtype, params=params)
