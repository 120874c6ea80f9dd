"""What is wrong with the entry of a stored weight that somebody may have edited."""

from collections.abc import Iterator
from typing import Final

from qcompile.core.numerics.affine import zero_offset
from qcompile.core.numerics.grouped import group_count
from qcompile.core.plan import ValuePlan
from qcompile.core.stored import Stored
from qcompile.core.target import Target

TYPES: Final = ("uint8", "uint4", "uint3", "uint2")
"""Types that a stored weight may have: layers of one plan may have several."""


def stored_faults(entry: ValuePlan, stored: Stored, target: Target) -> Iterator[str]:
    """Each fault as a phrase, in the order in which the rest makes sense.

    Args:
        entry: as a saved plan has it, with parameters.
        stored: the weight.
        target: whose kernels read it.
    """
    if entry.granularity != "group" or entry.axis != stored.axis:
        yield f"its scales are those of groups along axis {stored.axis}"
        return
    if entry.dtype not in TYPES:
        yield f"type {entry.dtype!r} is none of {', '.join(TYPES)}"
        return
    sizes = target.weights.groups
    whole = entry.group >= stored.rows
    if sizes and not whole and not any(entry.group % size == 0 for size in sizes):
        yield f"a group is made of {' or '.join(map(str, sizes))} elements"
    if entry.narrow != target.weights.narrow:
        yield f"whether its codes are narrow is {target.name}'s business"
        return
    if entry.params is None:
        yield "it has no scales"
        return
    wanted = (group_count(stored.rows, entry.group), stored.columns)
    if entry.params.scale.shape != wanted:
        yield f"it has scales of {entry.params.scale.shape}, not {wanted}: groups by columns"
    elif entry.symmetric and (entry.params.zero_point != zero_offset(entry.dtype)).any():
        yield "it says that its zero points are in the middle, and they are not"
