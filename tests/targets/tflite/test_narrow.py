"""Schemes w4a8 and w2a8, static and dynamic: packed weights of FULLY_CONNECTED, to the bit."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.affine import weight_limits
from qcompile.core.target import Target
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.builder import packed
from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.prove import executed
from qcompile.targets.tflite.reading import Tensor, read_graph
from qcompile.targets.tflite.reference.model import read
from qcompile.targets.tflite.verifier import verify_flatbuffer
from tests.passes.planning import draft, session
from tests.targets.tflite.lowering import (
    RESOLVERS,
    Run,
    deviation,
    lowered,
    noise,
    parse,
    quantized,
)
from tests.targets.tflite.random_graphs.check import random_feeds
from tests.targets.tflite.random_graphs.compare import deviations, for_reference_kernels
from tests.targets.tflite.random_graphs.nodes import graph

WHOLE = load_target("tflite-arm64")
KINDS = {"w4a8": "int4", "w2a8": "int2"}
LITERT = "LiteRT 2.3"


def under(scheme: str) -> Target:
    return WHOLE.under(scheme)


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@given(
    st.sampled_from(["int4", "int2"]),
    st.lists(st.integers(-2, 1), min_size=1, max_size=19),
)
def test_what_is_packed_is_read_back(kind: str, integers: list[int]) -> None:
    array = np.asarray(integers, np.int8)
    raw = packed(array, kind)
    assert raw.nbytes == -(-array.size * int(kind[3:]) // 8)
    assert np.array_equal(Tensor(0, "w", array.shape, kind, None, raw).array, array)


def test_other_types_are_not_packed() -> None:
    array = np.arange(5, dtype=np.int8)
    assert packed(array, "int8") is array


LAYERS = {
    "gemm": ("y = Gemm <transB = 1> (x, w, b)", (5, 12)),
    "matmul": ("m = MatMul (x, w) a = Add (m, b) y = Relu (a)", (12, 5)),
    "odd": ("s = Slice (x, zero, eleven, one) y = Gemm <transB = 1> (s, w, b)", (5, 11)),
}
SLICE = {name: np.asarray([n], np.int64) for name, n in (("zero", 0), ("eleven", 11), ("one", 1))}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("scheme", KINDS)
def test_static(scheme: str, layer: str) -> None:
    body, shape = LAYERS[layer]
    constants = {"w": rand(*shape), "b": rand(5, seed=1), **(SLICE if layer == "odd" else {})}
    model = parse(f"g (float[3, 12] x) => (float[] y) {{ {body} }}", constants)
    qdq = quantized(model, target=under(scheme))
    data = lowered_for(qdq, scheme)
    weight = next(t for t in read_graph(data).tensors if t.dtype == KINDS[scheme])
    low, high = weight_limits(weight.dtype)
    assert (weight.array.min(), weight.array.max()) >= (low, 0)
    assert weight.array.max() <= high
    feeds = {"x": np.random.default_rng(2).integers(-128, 128, (3, 12), dtype=np.int8)}
    (want,) = session(qdq).run(feeds)
    run = lowered_run(qdq, scheme)
    for kernels in RESOLVERS:
        (got,) = run.outputs(feeds, kernels)
        assert deviation(got, want).lsb <= 1
    taken = {o.op: o.delegated for o in executed(data).operators}
    assert taken["FULLY_CONNECTED"] == (layer != "odd")


@pytest.mark.parametrize("scheme", KINDS)
def test_dynamic(scheme: str) -> None:
    model = parse(
        "g (float[3, 12] x) => (float[] y) { m = MatMul (x, w) a = Add (m, b) y = Relu (a) }",
        {"w": rand(12, 5), "b": rand(5, seed=1)},
    )
    target = under(f"{scheme}-dynamic")
    plan = draft(model, target=target, scheme="w8a8-dynamic")
    choose_weights(model.graph, plan, target)
    qdq = model.clone()
    InsertQDQ(plan)(qdq)
    data = lowered_for(qdq, scheme)
    assert KINDS[scheme] in {t.dtype for t in read_graph(data).tensors}
    (only,) = executed(data).operators
    assert (only.op, only.integer, only.delegated) == ("FULLY_CONNECTED", True, True)
    feeds = noise(model)
    (want,) = session(qdq).run(feeds)
    run = lowered_run(qdq, scheme)
    for kernels in RESOLVERS:
        (got,) = run.outputs(feeds, kernels)
        assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


@pytest.mark.parametrize("scheme", KINDS)
@pytest.mark.parametrize(
    ("body", "weight", "op"),
    [
        ("y = Conv (x, w)", (4, 4, 3, 3), "CONV_2D"),
        ("y = Conv <group = 4> (x, w)", (4, 1, 3, 3), "DEPTHWISE_CONV_2D"),
        ("y = ConvTranspose (x, w)", (4, 4, 2, 2), "TRANSPOSE_CONV"),
        ("y = MatMul (x, w)", (4, 6, 5), "BATCH_MATMUL"),
    ],
)
def test_kernels_without_narrow_weights_keep_8_bits(
    scheme: str, body: str, weight: tuple[int, ...], op: str
) -> None:
    model = parse(f"g (float[1, 4, 6, 6] x) => (float[] y) {{ {body} }}", {"w": rand(*weight)})
    qdq = quantized(model, target=under(scheme))
    data = lowered_for(qdq, scheme)
    assert {t.dtype for t in read_graph(data).tensors} <= {"int8", "int32"}
    assert op in [o.name for o in read_graph(data).operators]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    st.sampled_from(["Gemm", "MatMul", "Conv"]),
    st.integers(0, 6),
    st.integers(0, 2**32 - 1),
    st.sampled_from(list(KINDS)),
)
def test_random_graphs(op: str, size: int, seed: int, scheme: str) -> None:
    """Reference kernels give the bits of the numpy reference, XNNPACK at most one step else, and
    that only where it leaves a row that is no whole number of bytes to the built-in kernels.
    """
    model = graph(op, size, seed).finished()
    data = lower(quantized(model, target=under(scheme)), under(scheme))
    assert verify_flatbuffer(data, runtime=LITERT) == []
    feeds = random_feeds(read(data), seed)
    if not {"CEIL", "ELU", "ROUND"} & {o.name for o in read_graph(data).operators}:
        assert deviations(for_reference_kernels(data), feeds, "reference") == []
    for found in deviations(data, feeds, "xnnpack"):
        assert (found.operator, found.largest) == ("FULLY_CONNECTED", 1.0)
        assert any(o.op == found.operator and not o.delegated for o in executed(data).operators)


def lowered_for(qdq: ir.Model, scheme: str) -> bytes:
    data = lower(qdq, under(scheme))
    assert verify_flatbuffer(data, runtime=under(scheme).min_runtime) == []
    return data


def lowered_run(qdq: ir.Model, scheme: str) -> Run:
    return lowered(qdq, target=under(scheme))
