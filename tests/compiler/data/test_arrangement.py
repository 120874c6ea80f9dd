"""Colours along the wrong axis show in smooth pictures, and in nothing else."""

import numpy as np
import pytest

from qcompile.compiler.data.arrangement import color_axis, is_misplaced, steps

RNG = np.random.default_rng(1)


def scene(size: int = 48) -> np.ndarray:
    """Smooth pictures in colour, 32 x H x W x 3."""
    noise = RNG.normal(size=(32, size + 9, size + 9, 3))
    smooth = sum(noise[:, i : size + i] for i in range(9))  # a box, so that no place is special
    smooth = sum(smooth[:, :, i : size + i] for i in range(9))
    smooth /= np.abs(smooth).max(axis=(1, 2), keepdims=True)
    return (255 * np.array([0.9, 0.5, 0.2]) * (1 + smooth) / 2).astype(np.float32)


def verdict(x: np.ndarray) -> bool:
    found = steps(x)
    assert found is not None
    return is_misplaced(color_axis(x.shape) or 0, found)


def test_moved_axes_are_right_and_reshaped_ones_are_not() -> None:
    last = scene()
    first = last.transpose(0, 3, 1, 2)
    assert not verdict(last)
    assert not verdict(first)
    assert verdict(last.reshape(32, 3, 48, 48))
    assert verdict(first.reshape(32, 48, 48, 3))


@pytest.mark.parametrize("x", [
    np.repeat(scene()[..., :1], 3, axis=3),
    RNG.normal(size=(1, 40, 40, 3)),
    np.zeros((1, 40, 40, 3)),
], ids=["grey", "noise", "black"])  # fmt: skip
def test_what_tells_nothing(x: np.ndarray) -> None:
    for y in (x, x.transpose(0, 3, 1, 2), x.reshape(len(x), 3, *x.shape[1:3])):
        assert not verdict(y)


@pytest.mark.parametrize("shape", [(1, 3, 9, 3), (1, 3, 4, 40), (1, 40, 40), (1, 1, 9, 9)])
def test_no_picture_in_colour(shape: tuple[int, ...]) -> None:
    assert color_axis(shape) is None
    assert steps(np.zeros(shape)) is None
