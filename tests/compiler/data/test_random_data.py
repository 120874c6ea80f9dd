"""Random data: reproducible, in any order, of the shapes and types of the model."""

import numpy as np
import pytest

from qcompile.compiler.data.random_data import random_data
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, refused, signature

SIG = signature(
    ("x", "float32", ("N", 3, 4)), ("h", "float16", (2, "N", 5)), ("ids", "int64", ("N", 6)),
    ("mask", "bool", ("N", 6)), ("rate", "int64", ()),
)  # fmt: skip


def test_feeds():
    feeds = random_data(SIG, 5, 0)[4].feeds
    assert {name: (x.dtype.name, x.shape) for name, x in feeds.items()} == {
        "x": ("float32", (1, 3, 4)), "h": ("float16", (2, 1, 5)), "ids": ("int64", (1, 6)),
        "mask": ("bool", (1, 6)), "rate": ("int64", ()),
    }  # fmt: skip
    assert set(np.unique(feeds["ids"])) <= {0, 1}


def test_the_same_in_any_order():
    first, second = random_data(SIG, 5, 0), random_data(SIG, 9, 0)
    backwards = {i: second[i] for i in (4, 2, 0)}
    for i, sample in backwards.items():
        assert all(np.array_equal(first[i].feeds[k], x) for k, x in sample.feeds.items())
    assert not np.array_equal(first[0].feeds["x"], first[1].feeds["x"])
    assert not np.array_equal(first[0].feeds["x"], random_data(SIG, 5, 1)[0].feeds["x"])
    assert not first.has_labels
    with pytest.raises(IndexError):
        first[5]


def test_refusals():
    refused(
        Code.SHAPE_NOT_STATIC, "input", "--shape input=",
        when=lambda: random_data(one_input("N", "S"), 3, 0),
    )  # fmt: skip
    refused(
        Code.SHAPE_NOT_STATIC, when=lambda: random_data(signature(("x", "float32", None)), 3, 0)
    )
    refused(Code.DATA_TYPE, when=lambda: random_data(one_input(1, dtype="object"), 3, 0))
    refused(Code.DATA_EMPTY, when=lambda: random_data(one_input(1), 0, 0))
