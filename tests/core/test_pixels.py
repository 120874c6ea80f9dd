"""Bytes behind the float model's input: exact for every byte, and notes from anyone are read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.ends import End
from qcompile.core.pixels import Pixels, pixels_from_json, pixels_to_json

EVERY = np.arange(256, dtype=np.uint8)


@given(st.floats(-300, 300), st.floats(0.01, 300))
def test_every_byte_is_found_behind_its_float32(mean: float, std: float) -> None:
    pixels = Pixels("x", 1.0, 0, (mean,), (std,))
    x = ((EVERY.astype(np.float64) - mean) / std).astype(np.float32)
    assert (pixels.bytes_of(x, "uint8") == EVERY).all()
    assert (pixels.bytes_of(x, "int8") == EVERY.astype(int) - 128).all()
    assert pixels.is_made_of_bytes(x)
    assert not pixels.is_made_of_bytes(x + np.float32(0.4 / std))


def test_channels_and_an_end_that_moves_axes() -> None:
    pixels = Pixels("x", 1.0, 0, (1.0, 2.0, 3.0), (2.0, 4.0, 8.0), 1)
    u = np.random.default_rng(0).integers(0, 256, (1, 3, 4, 5))
    x = ((u - np.reshape([1, 2, 3], (3, 1, 1))) / np.reshape([2, 4, 8], (3, 1, 1))).astype("f4")
    scale, zero = np.float32(1), np.int64(0)
    end = End("uint8", np.asarray(scale), np.asarray(zero), (0, 2, 3, 1), pixels)
    assert (end.given(x) == u.transpose(0, 2, 3, 1)).all()
    raw = np.zeros((1, 3, 4, 5), np.uint8)
    assert end.given(raw).shape == (1, 4, 5, 3)


def test_json_there_and_back() -> None:
    table = {"x": Pixels("x_pixels", 1 / 127.5, 128, (127.5,), (127.5,), 1, ("a", "b"))}
    assert pixels_from_json(pixels_to_json(table)) == table


@pytest.mark.parametrize(
    "text",
    [
        None, "", "{", "[]", "3", '{"x": 1}', '{"x": {"value": "v"}}',
        '{"x": {"value": "v", "scale": 1, "zero_point": 0, "mean": [], "std": []}}',
        '{"x": {"value": "v", "scale": "a", "zero_point": 0, "mean": [1], "std": [1]}}',
        '{"x": {"value": "v", "scale": 1, "zero_point": 0, "mean": [1], "std": [1, 2]}}',
        '{"x": {"value": "v", "scale": 1, "zero_point": 0, "mean": [NaN], "std": [1]}}',
    ],
)  # fmt: skip
def test_anything_else_is_no_note(text: str | None) -> None:
    assert pixels_from_json(text) == {}
