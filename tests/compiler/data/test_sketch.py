"""Samples that are almost copies are found, those that are only alike are not."""

import numpy as np

from qcompile.compiler.data.sketch import near_copies, sketch

RNG = np.random.default_rng(0)


def drawn(samples: np.ndarray) -> np.ndarray:
    found = [sketch({"x": x}) for x in samples]
    return np.stack([f for f in found if f is not None])


def test_a_little_noise_makes_a_near_copy_and_the_same_again_an_exact_one() -> None:
    x = RNG.normal(size=(30, 3, 16, 16)).astype(np.float32).cumsum(axis=2)
    x[20] = x[4] + 0.01 * RNG.normal(size=x[4].shape)
    x[21] = x[7]
    prints = np.arange(30)
    prints[21] = 7
    assert near_copies(drawn(x), prints) == (1, (4, 20))
    assert near_copies(drawn(x + 1000), prints) == (1, (4, 20))  # the unit does not matter


def test_samples_that_differ() -> None:
    x = RNG.normal(size=(300, 500)).astype(np.float32)
    assert near_copies(drawn(x), np.arange(300)) == (0, None)
    close = np.ones((40, 500), np.float32) + 1e-3 * x[:40]  # a set that varies little
    assert near_copies(drawn(close), np.arange(40)) == (0, None)


def test_few_samples_equal_ones_and_short_ones() -> None:
    assert near_copies(drawn(np.zeros((3, 9), np.float32)), np.arange(3)) == (0, None)
    assert near_copies(drawn(np.zeros((9, 9), np.float32)), np.arange(9)) == (0, None)
    assert near_copies(drawn(RNG.normal(size=(9, 5))), np.arange(9)) == (0, None)


def test_names_have_no_distance() -> None:
    assert sketch({"ids": np.arange(40)}) is None
    assert sketch({"picture": np.arange(40, dtype=np.uint8), "ids": np.arange(4)}) is not None
