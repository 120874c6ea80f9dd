"""Schemes w8, w4 and w2: stored weights of FULLY_CONNECTED, rows of EMBEDDING_LOOKUP in LiteRT."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.errors import Code, QCompileError
from qcompile.passes.rounding.stored_choice import choose_stored, nearest
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.prove import executed
from qcompile.targets.tflite.reading import read_graph
from tests.passes.planning import session
from tests.targets.tflite.lowering import RESOLVERS, Run, lowered, noise, parse

pytestmark = pytest.mark.litert
WHOLE = load_target("tflite-arm64")
KINDS = {"w8": "int8", "w4": "int4", "w2": "int2"}


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def stored(model: ir.Model, scheme: str) -> ir.Model:
    """The QDQ graph of a weight-only scheme, rounded to nearest."""
    plan = empty_plan(model, WHOLE.under(scheme), Scheme(scheme=scheme), {})
    choose_stored(model.graph, plan, {}, nearest(None))
    return quantize(model, plan)


def run(qdq: ir.Model, scheme: str) -> Run:
    return lowered(qdq, target=WHOLE.under(scheme))


LAYERS = {
    "gemm": ("y = Gemm <transB = 1> (x, w, b)", (40, 48)),
    "gemm turned": ("y = Gemm (x, w, b)", (48, 40)),
    "matmul": ("m = MatMul (x, w) a = Add (m, b) y = Relu (a)", (48, 40)),
}


@pytest.mark.parametrize("scheme", KINDS)
@pytest.mark.parametrize("layer", LAYERS)
def test_products(layer: str, scheme: str) -> None:
    body, shape = LAYERS[layer]
    text = f"g (float[3, 48] x) => (float[] y) {{ {body} }}"
    model = parse(text, {"w": rand(*shape), "b": rand(40, seed=1)})
    qdq = stored(model, scheme)
    made = run(qdq, scheme)
    (weight,) = (t for t in read_graph(made.lowered.data).tensors if t.dtype == KINDS[scheme])
    high = {"int8": 127, "int4": 7, "int2": 1}[weight.dtype]
    assert np.abs(weight.array.astype(int)).max() <= high
    (only,) = executed(made.lowered.data).operators
    assert (only.op, only.integer, only.delegated) == ("FULLY_CONNECTED", True, True)
    feeds = noise(model)
    (want,) = session(qdq).run(feeds)
    for kernels in RESOLVERS:  # each quantizes the activation's rows to 8 bits in its own way
        (got,) = made.outputs(feeds, kernels)
        assert np.abs(got - want).max() < 0.02 * np.abs(want).max()


@pytest.mark.parametrize(("scheme", "inputs"), [("w4", 47), ("w2", 46)])
def test_inputs_that_fill_no_byte_take_8_bits(scheme: str, inputs: int) -> None:
    text = f"g (float[3, {inputs}] x) => (float[] y) {{ y = MatMul (x, w) }}"
    made = run(stored(parse(text, {"w": rand(inputs, 40)}), scheme), scheme)
    assert {t.dtype for t in read_graph(made.lowered.data).tensors if t.is_constant} == {"int8"}
    assert [o.delegated for o in executed(made.lowered.data).operators] == [True]


@pytest.mark.parametrize("scheme", KINDS)
@pytest.mark.parametrize("ids", ["int64[3]", "int64[2, 3]"])
def test_embeddings_are_exact(scheme: str, ids: str) -> None:
    table = rand(64, 48)
    model = parse(f"g ({ids} i) => (float[] y) {{ y = Gather (t, i) }}", {"t": table})
    qdq = stored(model, scheme)
    made = run(qdq, scheme)
    assert "EMBEDDING_LOOKUP" in made.ops
    shape = tuple(int(d) for d in qdq.graph.inputs[0].shape.numpy())
    feeds = {"i": np.random.default_rng(1).integers(0, 64, shape)}
    (want,) = session(qdq).run(feeds)
    for kernels in RESOLVERS:
        (got,) = made.outputs(feeds, kernels)
        assert np.array_equal(got, want)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(list(KINDS)), st.integers(1, 24), st.integers(1, 40), st.integers(0, 99))
def test_litert_reads_the_plans_integers_bit_by_bit(
    scheme: str, eighths: int, columns: int, seed: int
) -> None:
    """Rows of a table, looked up one and all, are its codes times the row's scale."""
    table = rand(columns + 40, 8 * eighths + 24, seed=seed)
    model = parse(f"g (int64[{len(table)}] i) => (float[] y) {{ y = Gather (t, i) }}", {"t": table})
    qdq = stored(model, scheme)
    feeds = {"i": np.arange(len(table))}
    (want,) = session(qdq).run(feeds)
    (got,) = run(qdq, scheme).outputs(feeds, "reference")
    assert np.array_equal(got, want)


def test_a_tied_head_shares_its_bytes() -> None:
    table = rand(64, 48)
    model = parse(
        "g (int64[3] i) => (float[] y) { e = Gather (t, i) y = MatMul (e, h) }",
        {"t": table, "h": np.ascontiguousarray(table.T)},
    )
    data = run(stored(model, "w4"), "w4").lowered.data
    assert len(data) < 64 * 48 // 2 + 4096


def test_convolutions_stay_float_and_say_why() -> None:
    model = parse(
        "g (float[1, 16, 6, 6] x) => (float[] y) { y = Conv (x, w) }", {"w": rand(16, 16, 3, 3)}
    )
    plan = empty_plan(model, WHOLE.under("w4"), Scheme(scheme="w4"), {})
    (node,) = plan.nodes.values()
    assert node.mode == "float"
    assert "w8a8-dynamic" in node.reason


@pytest.mark.parametrize(
    ("target", "scheme", "why"),
    [
        ("tflite-micro", "w4", "no FULLY_CONNECTED of floats"),
        ("tflite-ethos-u55-128", "w2", "Vela leaves products of floats"),
        ("tflite-arm64", "w3", "no weights of 3 bits"),
        ("tflite-arm64", "w1.58", "three values already"),
    ],
)
def test_what_has_no_kernels_says_why(target: str, scheme: str, why: str) -> None:
    with pytest.raises(QCompileError, match=why) as caught:
        load_target(target).under(scheme)
    assert caught.value.code is Code.SCHEME_UNSUPPORTED


@pytest.mark.parametrize(
    "asked", [{"granularity": "group:32"}, {"symmetric": False}, {"granularity": "tensor"}]
)
def test_options_that_its_kernels_cannot_honour(asked: dict) -> None:
    model = parse("g (float[3, 48] x) => (float[] y) { y = MatMul (x, w) }", {"w": rand(48, 40)})
    with pytest.raises(QCompileError) as caught:
        empty_plan(model, WHOLE.under("w4"), Scheme(scheme="w4", **asked), {})
    assert caught.value.code is Code.BAD_OPTION
