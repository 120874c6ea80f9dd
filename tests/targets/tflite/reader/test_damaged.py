"""Damaged files: cut off or with bits turned over, they are read or refused, never a traceback."""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompile.core.errors import QCompileError
from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.reader.read import read_model
from qcompile.targets.tflite.reading import read_graph
from tests.targets.tflite.lowering import TARGET
from tests.targets.tflite.random_graphs.nodes import NODES
from tests.targets.tflite.random_graphs.sketch import Sketch
from tests.targets.tflite.sound import sound

EXAMPLES = 150


@functools.cache
def of_many_operators(start: int) -> bytes:
    """A file with every third of all ops."""
    sketch = Sketch.begin(np.random.default_rng(start))
    for op in list(NODES)[start::3]:
        NODES[op](sketch)
    return lower(sketch.finished(), TARGET)


FILES: dict[str, Callable[[], bytes]] = {
    "integers": sound,
    "floats 0": lambda: of_many_operators(0),
    "floats 1": lambda: of_many_operators(1),
    "floats 2": lambda: of_many_operators(2),
}
ODD = (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80")


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=EXAMPLES, deadline=2000, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_file_is_read_or_refused(name: str, data: st.DataObject) -> None:
    survives(damaged_by(data, FILES[name]()))


@pytest.mark.models
@pytest.mark.parametrize("name", ["kws_dscnn_int8_peer", "resnet8_cifar10"])
@settings(max_examples=EXAMPLES // 3, deadline=5000)
@given(data=st.data())
def test_a_damaged_real_file_is_read_or_refused(
    models_dir: Path, name: str, data: st.DataObject
) -> None:
    survives(damaged_by(data, (models_dir / f"mlperf_tiny/{name}.tflite").read_bytes()))


def damaged_by(data: st.DataObject, whole: bytes) -> bytes:
    """A file with bits turned over or numbers replaced; most of them in its structure, not weights.

    Structure stands at both ends of a flatbuffer.
    """
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        last = len(whole) - 4
        edge = min(last, 4096)
        places = (st.integers(0, edge), st.integers(last - edge, last), st.integers(0, last))
        at = data.draw(st.one_of(*places))
        if data.draw(st.booleans()):
            damaged[at] ^= 1 << data.draw(st.integers(0, 7))
        else:
            damaged[at : at + 4] = data.draw(st.sampled_from(ODD))
    return bytes(damaged)


@pytest.mark.parametrize("name", FILES)
@settings(max_examples=EXAMPLES // 3, deadline=2000)
@given(st.data())
def test_a_file_that_is_cut_off_is_refused_or_lacks_nothing(name: str, data: st.DataObject) -> None:
    whole = FILES[name]()
    survives(whole[: data.draw(st.integers(0, len(whole) - 1))])


def survives(data: bytes) -> None:
    with contextlib.suppress(QCompileError):
        read_model(data)


def test_vectors_that_are_longer_than_the_file_are_not_followed() -> None:
    whole = sound()
    graph = read_graph(whole)
    assert len(graph.tensors) == 13
    count = (13).to_bytes(4, "little")
    at = -1
    refused = 0
    while (at := whole.find(count, at + 1)) >= 0:
        damaged = bytearray(whole)
        damaged[at : at + 4] = (len(whole)).to_bytes(4, "little")
        try:
            read_graph(bytes(damaged))
        except QCompileError:
            refused += 1
    assert refused
