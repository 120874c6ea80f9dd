"""Scheme fp16: float16 weights behind DEQUANTIZE, as exact as the graph and no slower kernels."""

import numpy as np
import pytest

from qcompile.passes.quantize.half_weights import HalfWeights
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.operator_table import operator_table, version_of
from qcompile.targets.tflite.prove import executed
from qcompile.targets.tflite.reading import read_graph
from tests.targets.tflite.lowering import RESOLVERS, lowered, noise, parse, session


def rand(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("c = Conv <pads = [1, 1, 1, 1]> (x, w, b) y = Relu (c)", rand(4, 4, 3, 3)),
        ("y = Conv <group = 4> (x, w, b)", rand(4, 1, 3, 3)),
        ("y = ConvTranspose <strides = [2, 2]> (x, w, b)", rand(4, 4, 2, 2)),
        ("m = MatMul (x, w) y = Add (m, b)", rand(6, 4)),
        ("y = MatMul (x, w)", rand(4, 6, 5)),
        ("f = Flatten (x) y = Gemm <transB = 1> (f, w, b)", rand(4, 144)),
        ("f = Flatten (x) y = Gemm <transB = 1, alpha = 0.3> (f, w, b)", rand(4, 144)),
    ],
)
def test_an_artefact_computes_what_its_graph_does(body: str, weight: np.ndarray) -> None:
    text = f"g (float[1, 4, 6, 6] x) => (float[] y) {{ {body} }}"
    model = parse(text, {"w": weight, "b": rand(4)})
    assert HalfWeights()(model).modified
    run = lowered(model)
    graph = read_graph(run.lowered.data)
    kinds = [t.dtype for t in graph.tensors]
    assert ("float16" in kinds) == ("DEQUANTIZE" in run.ops) == ("alpha" not in body)
    for op in graph.operators:
        types = [None if (t := graph.tensor(i)) is None else t.dtype for i in op.inputs]
        made = [graph.tensors[i].dtype for i in op.outputs]
        assert op.version == version_of(operator_table(), op.name, types, made), op.name
    feeds = noise(model)
    (want,) = session(model).run(feeds)
    for kernels in RESOLVERS:
        (got,) = run.outputs(feeds, kernels)
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())


def test_xnnpack_takes_all_of_it() -> None:
    text = "g (float[1, 4, 6, 6] x) => (float[] y) { c = Conv (x, w, b) y = Relu (c) }"
    model = parse(text, {"w": rand(4, 4, 3, 3), "b": rand(4)})
    HalfWeights()(model)
    data = lowered(model).lowered.data
    (small,) = (op for op in read_graph(data).operators if op.name == "DEQUANTIZE")
    assert small.version == 3
    assert executed(data).left == ()


def test_which_targets_take_it() -> None:
    taking = [n for n in ("tflite-arm64", "tflite-x86") if "fp16" in load_target(n).schemes]
    assert taking == ["tflite-arm64", "tflite-x86"]
    assert "fp16" not in load_target("tflite-micro").schemes


def test_rows_of_a_table() -> None:
    model = parse("g (int64[3] i) => (float[] y) { y = Gather (t, i) }", {"t": rand(40, 8)})
    assert HalfWeights()(model).modified
    run = lowered(model)
    assert run.ops == ["DEQUANTIZE", "GATHER"]
    feeds = {"i": np.asarray([0, 39, 7])}
    (want,) = session(model).run(feeds)
    for kernels in RESOLVERS:
        (got,) = run.outputs(feeds, kernels)
        assert np.array_equal(got, want)
