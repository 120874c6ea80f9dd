"""What Keras 2 wrote and Keras 3 does not take: left out where it says nothing, kept where not."""

import copy
from typing import Any

import pytest

from qcompile.compiler.importers.keras_2 import mend
from tests.compiler.importers.keras_files import layer, model


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("LSTM", "time_major", False),
        ("GRU", "implementation", 2),
        ("InputLayer", "ragged", False),
        ("DepthwiseConv2D", "groups", 1),
        ("SeparableConv2D", "kernel_initializer", {"class_name": "GlorotUniform", "config": {}}),
        ("Conv2DTranspose", "groups", 1),
        ("MultiHeadAttention", "query_shape", [None, 6, 16]),
    ],
)
def test_what_says_nothing_is_left_out(kind: str, key: str, value: Any) -> None:
    config = model(layer("TimeDistributed", config={"layer": layer(kind, config={key: value})}))
    assert mend(config)
    inner = config["config"]["layers"][1]["config"]["layer"]["config"]
    assert inner == {"name": "culprit"}
    assert not mend(config)


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("LSTM", "time_major", True),
        ("InputLayer", "ragged", True),
        ("Conv2DTranspose", "groups", 2),
        ("Conv2D", "groups", 1),
        ("Dense", "kernel_initializer", None),
    ],
)
def test_what_says_something_is_kept(kind: str, key: str, value: Any) -> None:
    config = model(layer(kind, config={key: value}))
    before = copy.deepcopy(config)
    assert not mend(config)
    assert config == before


def test_an_axis_in_a_list() -> None:
    config = model(layer("BatchNormalization", config={"axis": [3]}))
    assert mend(config)
    assert config["config"]["layers"][1]["config"]["axis"] == 3
