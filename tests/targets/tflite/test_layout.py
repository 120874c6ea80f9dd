"""Permutations as layouts: their algebra, by hypothesis on numpy's transpose."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from qcompile.targets.tflite.layout import (
    Perm,
    apply,
    between,
    channels_last,
    identity,
    inverse,
    is_free,
    stored_axis,
)

PERMS = st.integers(1, 5).flatmap(lambda n: st.permutations(range(n))).map(tuple)
PAIRS = st.integers(1, 5).flatmap(
    lambda n: st.tuples(st.permutations(range(n)).map(tuple), st.permutations(range(n)).map(tuple))
)


def picture(rank: int) -> np.ndarray:
    return np.arange(np.prod(range(2, rank + 2))).reshape(range(2, rank + 2))


@given(PERMS)
def test_stored_shape_is_that_of_a_transpose(perm: Perm) -> None:
    x = picture(len(perm))
    assert np.transpose(x, perm).shape == apply(perm, x.shape)
    np.testing.assert_array_equal(np.transpose(np.transpose(x, perm), inverse(perm)), x)


@given(PAIRS)
def test_between_is_what_transpose_must_do(pair: tuple[Perm, Perm]) -> None:
    have, want = pair
    x = picture(len(have))
    moved = np.transpose(np.transpose(x, have), between(have, want))
    np.testing.assert_array_equal(moved, np.transpose(x, want))


@given(PERMS)
def test_stored_axis(perm: Perm) -> None:
    for axis in range(len(perm)):
        assert perm[stored_axis(perm, axis)] == axis
        assert stored_axis(perm, axis - len(perm)) == stored_axis(perm, axis)


@given(PAIRS, st.data())
def test_free_orders_hold_the_same_bytes(pair: tuple[Perm, Perm], data: st.DataObject) -> None:
    have, want = pair
    shape = data.draw(st.tuples(*[st.integers(1, 3)] * len(have)))
    x = np.arange(np.prod(shape)).reshape(shape)
    same = np.array_equal(np.transpose(x, have).ravel(), np.transpose(x, want).ravel())
    assert is_free(have, want, shape) == same


def test_channels_last() -> None:
    assert [channels_last(rank) for rank in (1, 2, 3, 4)] == [(0,), (0, 1), (0, 2, 1), (0, 2, 3, 1)]
    assert identity(3) == (0, 1, 2)
