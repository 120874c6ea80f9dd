"""Element types: what is converted silently, what never is."""

import numpy as np
import pytest

from qcompile.compiler.data.open import open_data
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, refused


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("uint16", "int64"), ("int64", "int32"), ("uint8", "float32"), ("float64", "float32"),
        ("float32", "float16"), ("bool", "int64"), ("bool", "float32"), ("int64", "bool"),
        ("float16", "float32"),
    ],
)  # fmt: skip
def test_values_are_kept(given, wanted):
    x = np.array([[0, 1, 1]]).astype(given)
    got = open_data(x, one_input("N", 3, dtype=wanted))[0].feeds["input"]
    assert got.dtype == wanted
    assert np.array_equal(got, x)


@pytest.mark.parametrize(
    ("values", "wanted", "word"),
    [
        (np.array([[1.5]]), "int64", "float64"),
        (np.array([[2**31]]), "int32", "2147483648"),
        (np.array([[-1]]), "uint8", "-1"),
        (np.array([[2]]), "bool", "2"),
        (np.array([["a"]]), "float32", "not numbers"),
        (np.array([[1j]]), "float32", "not numbers"),
        (np.array([[None]]), "float32", "not numbers"),
        (np.array([[1.0]]), "object", "cannot feed"),
    ],
)
def test_values_that_would_change(values, wanted, word):
    sig = one_input("N", 1, dtype=wanted)
    refused(Code.DATA_TYPE, word, when=lambda: open_data(values, sig)[0])


@pytest.mark.parametrize(
    ("bad", "word"), [(np.nan, "1 NaN of 3"), (np.inf, "1 infinite"), (-np.inf, "1 infinite")]
)
def test_values_that_are_no_numbers(tmp_path, bad, word):
    x = np.ones((4, 3), np.float32)
    x[2, 1] = bad
    np.savez(tmp_path / "calib.npz", input=x)
    data = open_data(tmp_path / "calib.npz", one_input("N", 3))
    assert data[1].feeds["input"].tolist() == [[1, 1, 1]]
    refused(Code.DATA_VALUES, "calib.npz[2]", word, when=lambda: data[2])


def test_both_kinds_of_bad_values_and_overflow():
    x = np.array([[np.nan, np.inf, 1]])
    refused(
        Code.DATA_VALUES, "1 NaN and 1 infinite", when=lambda: open_data(x, one_input("N", 3))[0]
    )
