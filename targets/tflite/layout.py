"""Layouts as permutations: how the axes of a value lie in the tensor that holds it.

A value of the graph has *logical* axes (N, C, H, W for a picture in ONNX). The tensor that holds it
has the same axes in another order: ``stored.shape[i] == logical.shape[perm[i]]``. Each op asks for
its inputs in the order it needs and says in which order it gives its outputs; a Transpose of the
graph only composes permutations. So the layout is decided once, as the graph is walked, and a
TRANSPOSE operator appears only where two wishes really meet.
"""

from collections.abc import Sequence

Perm = tuple[int, ...]


def identity(rank: int) -> Perm:
    """Stored as it is: the order of ONNX."""
    return tuple(range(rank))


def channels_last(rank: int) -> Perm:
    """N, C, spatial... stored as N, spatial..., C."""
    return (0, *range(2, rank), 1) if rank > 2 else identity(rank)


def inverse(perm: Perm) -> Perm:
    """The permutation that undoes it."""
    undone = [0] * len(perm)
    for stored, logical in enumerate(perm):
        undone[logical] = stored
    return tuple(undone)


def apply(perm: Perm, items: Sequence[int]) -> tuple[int, ...]:
    """Logical sizes (or any list an axis) in stored order."""
    return tuple(items[axis] for axis in perm)


def between(have: Perm, want: Perm) -> Perm:
    """What TRANSPOSE must do to a tensor stored by ``have`` so that it is stored by ``want``."""
    places = inverse(have)
    return tuple(places[axis] for axis in want)


def stored_axis(perm: Perm, logical_axis: int) -> int:
    """Where a logical axis (may be negative) lies in the tensor."""
    return inverse(perm)[logical_axis % len(perm)]


def is_free(have: Perm, want: Perm, shape: Sequence[int]) -> bool:
    """Whether the two orders hold the same bytes: only axes of size 1 change places."""
    longer_than_one = [axis for axis in have if shape[axis] != 1]
    return longer_than_one == [axis for axis in want if shape[axis] != 1]
