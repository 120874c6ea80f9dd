"""How arrays of every shape are split into samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.compiler.data.batches import batching
from qcompile.compiler.data.open import open_data
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, refused, signature


def feeds(values, sig):
    data = open_data(values, sig)
    return [data[i].feeds for i in range(len(data))]


def filled(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


@given(
    count=st.integers(1, 7),
    item=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    is_open=st.booleans(),
    dims_open=st.booleans(),
)
def test_every_element_once_and_in_order(count, item, is_open, dims_open):
    """A batch of one element each, whichever of the four forms the array comes in."""
    declared = ("N" if is_open else 1, *([None] * len(item) if dims_open else item))
    sig = one_input(*declared)
    x = filled(count, *item)
    for form in (x, x[:, None], list(x), list(x[:, None])):
        got = feeds(form, sig)
        assert len(got) == count
        for k, feed in enumerate(got):
            assert feed["input"].shape == (1, *item)
            assert np.array_equal(feed["input"][0], x[k])


@given(count=st.integers(1, 9), size=st.integers(2, 4))
def test_a_fixed_batch_takes_groups(count, size):
    sig = one_input(size, 3)
    x = filled(count, 3)
    if count < size:
        refused(Code.DATA_EMPTY, f"batch of {size}", when=lambda: open_data(x, sig))
        return
    for form in (x, list(x)):
        got = feeds(form, sig)
        assert len(got) == count // size
        assert np.array_equal(np.concatenate([f["input"] for f in got]), x[: len(got) * size])


def test_stacked_batches_are_fed_as_they_are():
    x = filled(5, 2, 3)
    assert np.array_equal(np.stack([f["input"] for f in feeds(x, one_input(2, 3))]), x)


def test_the_exact_shape_is_one_sample():
    x = filled(4, 3)
    (feed,) = feeds(x, one_input(4, 3))
    assert np.array_equal(feed["input"], x)


def test_the_batch_dimension_goes_by_name():
    """As Silero has it: state is 2 x batch x 128."""
    sig = signature(
        ("input", "float32", ("batch", "sequence")),
        ("state", "float32", (2, "batch", 4)),
        ("rate", "int64", ()),
    )
    assert batching(sig).axes == {"input": 0, "state": 1, "rate": None}
    x, state = filled(3, 5), filled(2, 3, 4)
    got = feeds({"input": x, "state": state, "rate": np.int64(16000)}, sig)
    assert len(got) == 3
    assert np.array_equal(got[1]["input"], x[1:2])
    assert np.array_equal(got[1]["state"], state[:, 1:2])
    assert got[2]["rate"].shape == ()
    stacked = {"input": x[:, None], "state": filled(3, 2, 1, 4), "rate": np.full(3, 8000)}
    assert np.array_equal(feeds(stacked, sig)[2]["state"], stacked["state"][2])


def test_batch_dimension_of_several_inputs():
    sig = signature(("a", "float32", (1, 3)), ("b", "float32", (1, 2)), ("c", "float32", (5, 2)))
    assert batching(sig).axes == {"a": 0, "b": 0, "c": None}
    assert batching(sig).size == 1
    got = feeds({"a": filled(4, 3), "b": filled(4, 2), "c": filled(5, 2)}, sig)
    assert [f["c"].shape for f in got] == [(5, 2)] * 4
    assert batching(signature(("s", "float32", ()))).axes == {"s": None}
    assert batching(signature(("s", "float32", None))).axes == {"s": 0}


def test_unknown_rank_is_a_batch():
    sig = signature(("input", "float32", None))
    assert [f["input"].shape for f in feeds(filled(3, 4), sig)] == [(1, 4)] * 3
    assert [f["input"].shape for f in feeds(np.float32(3), sig)] == [()]


def test_inputs_must_have_equally_many():
    sig = signature(("a", "float32", ("N", 3)), ("b", "float32", ("N", 2)))
    values = {"a": filled(4, 3), "b": filled(3, 2)}
    refused(Code.DATA_SHAPE, "a 4", "b 3", when=lambda: open_data(values, sig))


@pytest.mark.parametrize(
    ("shape", "declared", "words"),
    [
        ((4, 3), (1, 5), ["[4, 3]", "[1, 5]"]),
        ((4,), (1, 5, 5), ["[4]", "[1, 5, 5]"]),
        ((2, 2, 2, 2), ("N", 3), ["[2, 2, 2, 2]", "[N, 3]"]),
        ((4, 8, 6, 3), ("N", 3, 8, 6), ["transpose the arrays with (0, 3, 1, 2)"]),
        ((4, 3, 8, 6), ("N", 8, 6, 3), ["transpose the arrays with (0, 2, 3, 1)"]),
    ],
)
def test_shapes_that_do_not_fit(shape, declared, words):
    sig = one_input(*declared)
    refused(Code.DATA_SHAPE, "'input'", *words, when=lambda: open_data(filled(*shape), sig))


def test_mixed_batches_and_samples():
    refused(
        Code.DATA_SHAPE, "mixes",
        when=lambda: open_data([filled(1, 2, 3), filled(4, 3)], one_input(2, 3)),
    )  # fmt: skip
