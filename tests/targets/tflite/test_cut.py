"""Copies of a TFLite file that end at inner tensors or return them, run by XNNPACK."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.targets.tflite.cut import cut, exposed
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflite.reference.evaluate import trace
from qcompile.targets.tflite.runtime import TfliteSession
from tests.compiler import small


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder: Path = tmp_path_factory.mktemp("cut")
    source = small.saved(small.cnn(), folder)
    return small.built(source, data={"x": small.pictures(16)}, target="tflite-arm64").artefact


def feeds() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 3)).astype(np.int8)}


def inner(artefact: bytes) -> list[str]:
    graph = read_graph(artefact)
    return [graph.tensors[i].name for op in graph.operators for i in op.outputs]


def test_every_tensor_under_xnnpack_is_what_our_reference_says(artefact: bytes) -> None:
    names = inner(artefact)
    session = TfliteSession(exposed(artefact, names))
    made = dict(zip(session.output_names, session.run(feeds()), strict=True))
    wanted = trace(artefact, feeds(), rule="xnnpack")
    assert session.input_names == ("x",)
    assert session.output_names[0] == "y", "its own come first, by their names"
    assert len(names) >= 4
    for name in names[:-1]:
        np.testing.assert_array_equal(made[name], wanted[name])
    np.testing.assert_array_equal(made["y"], TfliteSession(artefact).run(feeds())[0])


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_cut_file_holds_what_its_end_needs(artefact: bytes, at: int) -> None:
    name = inner(artefact)[at]
    data = cut(artefact, [name])
    assert len(read_graph(data).operators) == at + 1
    session = TfliteSession(data)
    assert session.output_names == (name,)
    wanted = trace(artefact, feeds(), rule="xnnpack")[name]
    np.testing.assert_array_equal(session.run(feeds())[0], wanted)


def test_several_ends_in_the_order_asked_for(artefact: bytes) -> None:
    names = inner(artefact)
    asked = [names[2], names[0]]
    session = TfliteSession(cut(artefact, asked))
    assert list(session.output_names) == asked
