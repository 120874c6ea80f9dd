"""The arithmetic of preprocessing against a plain reference in exact rationals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.errors import Code
from tests.compiler.data.helpers import refused

NUMBER = st.floats(-300, 300, width=32)
POSITIVE = st.floats(1 / 64, 300, width=32)


def exact(x: int, preprocess: Preprocess, channel: int) -> Fraction:
    def of(value: float | tuple[float, ...]) -> Fraction:
        return Fraction(value[channel] if isinstance(value, tuple) else value)

    scaled = x * Fraction(preprocess.scale)
    return (scaled - of(preprocess.mean)) / of(preprocess.std)


@given(scale=POSITIVE, mean=st.tuples(NUMBER, NUMBER), std=st.tuples(POSITIVE, POSITIVE))
def test_each_byte_is_the_exact_value_rounded(scale, mean, std):
    preprocess = Preprocess(scale=scale, mean=mean, std=std)
    x = np.arange(256, dtype=np.uint8)
    both = np.stack([x, x])[None]
    got = preprocess.numbers(both, 1, "float32")
    for channel in range(2):
        for value in (0, 1, 127, 128, 255):
            want = exact(value, preprocess, channel)
            # Cancellation leaves float64's error of the larger term; then one rounding to float32.
            slack = 2.0**-50 * (255 * scale + abs(mean[channel])) / std[channel]
            step = float(np.spacing(np.float32(abs(want))))
            assert abs(float(got[0, channel, value]) - float(want)) <= step / 2 + slack


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float64])
def test_tables_and_arithmetic_agree(dtype):
    preprocess = Preprocess(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    x = np.arange(256 * 3, dtype=np.int64).reshape(1, 3, 16, 16) % 256
    want = preprocess.numbers(x, 1, "float32")
    assert np.array_equal(preprocess.numbers(x.astype(dtype), 1, "float32"), want)


def test_channels_last_is_the_same_moved():
    preprocess = Preprocess(mean=(1.0, 2.0, 3.0), std=(4.0, 5.0, 6.0))
    x = np.random.default_rng(0).integers(0, 256, (1, 3, 5, 7), np.uint8)
    first = preprocess.numbers(x, 1, "float32")
    last = preprocess.numbers(x.transpose(0, 2, 3, 1), 3, "float32")
    assert np.array_equal(last.transpose(0, 3, 1, 2), first)


def test_mobilenet_scaling():
    x = np.array([0, 127, 128, 255], np.uint8).reshape(1, 1, 1, 4)
    got = Preprocess(mean=127.5, std=127.5).numbers(x, 1, "float32")
    want = np.float32([-1, -0.5 / 127.5, 0.5 / 127.5, 1]).reshape(x.shape)
    assert np.array_equal(got, want)


def test_integers_are_rounded_half_to_even_and_clipped():
    x = np.array([0, 1, 3, 255], np.uint8).reshape(1, 1, 4)
    assert Preprocess(scale=0.5).numbers(x, 1, "uint8").ravel().tolist() == [0, 0, 2, 128]
    assert Preprocess(mean=128).numbers(x, 1, "int8").ravel().tolist() == [-128, -127, -125, 127]
    assert Preprocess(scale=2).numbers(x, 1, "uint8").ravel().tolist() == [0, 2, 6, 255]


def test_which_arrays_are_raw():
    byte, real = np.dtype(np.uint8), np.dtype(np.float32)
    assert not Preprocess().applies_to(byte, "f")
    assert Preprocess(std=255).applies_to(byte, "f")
    assert Preprocess(std=255, arrays="raw").applies_to(real, "f")
    assert not Preprocess(std=255, arrays="ready").applies_to(byte, "f")
    assert not Preprocess(arrays="auto").applies_to(real, "f")
    refused(
        Code.BAD_CONFIG, "calib.npz", 'arrays = "ready"',
        when=lambda: Preprocess(std=255).applies_to(real, "calib.npz"),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"std": 0}, "std"),
        ({"std": (1.0, 0.0, 1.0)}, "std"),
        ({"scale": 0}, "scale"),
        ({"mean": float("nan")}, "finite"),
        ({"mean": (1.0, 2.0), "std": (1.0, 2.0, 3.0)}, "one a channel"),
        ({"mean": ()}, "one a channel"),
        ({"crop": 0}, "crop"),
        ({"resize": (3, -1)}, "resize"),
        ({"resize": (3, 4, 5)}, "resize"),
        ({"dtype": "float33"}, "float33"),
    ],
)
def test_options_that_make_no_sense(options, word):
    refused(Code.BAD_CONFIG, "[preprocess]", word, when=lambda: Preprocess(**options))


def test_wrong_number_of_channels():
    x = np.zeros((1, 4, 2, 2), np.uint8)
    preprocess = Preprocess(mean=(1.0, 2.0, 3.0))
    refused(Code.BAD_CONFIG, "3 numbers", "4", when=lambda: preprocess.numbers(x, 1, "float32"))
