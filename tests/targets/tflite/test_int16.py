"""Scheme w8a16: what the planner makes of int16 activations, written, verified and run."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.target import OpRule
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.operator_table import operator_table
from qcompile.targets.tflite.reading import Graph, read_graph
from tests.passes.planning import planned, session
from tests.targets.tflite.lowering import Arrays, Run, deviation, lowered, noise, parse, quantized
from tests.targets.tflite.random_graphs.nodes import NODES, graph

TABLE = operator_table()
NARROW = load_target("tflite-arm64")
TARGET = NARROW.under("w8a16")
KERNELS = ("reference", "builtin")
"""There is no int16 in XNNPACK."""


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def graph_of(run: Run) -> Graph:
    return read_graph(run.lowered.data)


def check(text: str, constants: Arrays | None = None, *, lsb: int = 2, share: float = 0.2) -> Run:
    """LiteRT computes the integers of the QDQ graph, but for few, and few steps.

    More may differ by one than in int8: the kernels round their multipliers to 16 bits.
    """
    model = parse(text, constants)
    qdq = quantized(model, ends="int16", target=TARGET)
    ends = (*qdq.graph.inputs, *qdq.graph.outputs)
    assert all(v.dtype == ir.DataType.INT16 for v in ends)
    run = lowered(qdq, target=TARGET)
    tensors = graph_of(run).tensors
    assert not [t.name for t in tensors if t.dtype == "float32"]
    rng = np.random.default_rng(1)
    feeds = {
        v.name or "": rng.integers(-32767, 32768, tuple(v.shape.numpy()), dtype=np.int16)
        for v in qdq.graph.inputs
        if v.shape is not None
    }
    wanted = session(qdq).run(feeds)
    for kernels in KERNELS:
        for got, want in zip(run.outputs(feeds, kernels), wanted, strict=True):
            found = deviation(got, want)
            assert got.dtype == want.dtype == np.int16
            assert found.lsb <= lsb, (kernels, found)
            assert found.share <= share, (kernels, found)
    return run


CONV = "g (float[1, 4, 6, 6] x) => (float[] y) {{ {} }}"
W, B = {"w": rand(6, 4, 3, 3)}, {"b": rand(6, seed=1)}


@pytest.mark.parametrize(
    ("body", "constants", "operators"),
    [
        ("y = Conv <pads = [1, 1, 1, 1]> (x, w, b)", {**W, **B}, ["CONV_2D"]),
        ("y = Conv (x, w)", W, ["CONV_2D"]),
        ("c = Conv (x, w, b) y = Relu (c)", {**W, **B}, ["CONV_2D"]),
        ("c = Conv (x, w, b) y = Clip (c, l, h)",
         {**W, **B, "l": np.float32(0), "h": np.float32(6)}, ["CONV_2D"]),
        ("c = Conv (x, w, b) y = Clip (c, l, h)",
         {**W, **B, "l": np.float32(0), "h": np.float32(2)}, ["CONV_2D", "MAXIMUM"]),
        ("y = Conv <group = 4> (x, w, b)", {"w": rand(4, 1, 3, 3), "b": rand(4)},
         ["DEPTHWISE_CONV_2D"]),
        ("y = Conv <group = 2> (x, w, b)", {"w": rand(6, 2, 3, 3), **B}, ["CONV_2D"]),
        ("y = ConvTranspose <strides = [2, 2]> (x, w, b)", {"w": rand(4, 6, 2, 2), **B},
         ["TRANSPOSE_CONV"]),
        ("f = Flatten (x) y = Gemm <transB = 1> (f, w, b)",
         {"w": rand(5, 144), "b": rand(5)}, ["FULLY_CONNECTED"]),
        ("y = MatMul (x, w)", {"w": rand(6, 5)}, ["FULLY_CONNECTED"]),
        ("m = MatMul (x, w) y = Add (m, b)", {"w": rand(6, 5), "b": rand(5)}, ["FULLY_CONNECTED"]),
        ("y = MatMul (x, w)", {"w": rand(4, 6, 5)}, ["BATCH_MATMUL"]),
        ("t = Transpose <perm = [0, 1, 3, 2]> (x) y = MatMul (x, t)", {}, ["BATCH_MATMUL"]),
        ("y = Add (x, b)", {"b": rand(4, 1, 1)}, ["ADD"]),
        ("y = Sub (b, x)", {"b": rand(4, 1, 1)}, ["SUB"]),
        ("y = Mul (x, x)", {}, ["MUL"]),
        ("y = Max (x, b)", {"b": rand(4, 1, 1)}, ["MAXIMUM"]),
        ("y = Neg (x)", {}, ["MUL"]),
        ("y = Abs (x)", {}, ["ABS"]),
        ("y = Relu (x)", {}, ["MAXIMUM"]),
        ("y = LeakyRelu (x)", {}, ["LEAKY_RELU"]),
        ("y = GlobalAveragePool (x)", {}, ["MEAN"]),
        ("y = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (x)", {},
         ["AVERAGE_POOL_2D"]),
        ("y = MaxPool <kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]> (x)", {},
         ["CONCATENATION", "CONCATENATION", "MAX_POOL_2D"]),
        ("y = Pad (x, p, v)", {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "v": np.float32(0.5)},
         ["CONCATENATION", "CONCATENATION"]),
        ("y = ReduceMax <keepdims = 0> (x, a)", {"a": np.array([2])}, ["REDUCE_MAX"]),
        ("y = Concat <axis = 1> (x, x)", {}, ["CONCATENATION"]),
        ("y = Resize <mode = \"nearest\"> (x, , s)", {"s": np.float32([1, 1, 2, 2])},
         ["RESIZE_NEAREST_NEIGHBOR"]),
    ],
)  # fmt: skip
def test_integers_are_those_of_the_graph(
    body: str, constants: dict[str, np.ndarray], operators: list[str]
) -> None:
    run = check(CONV.format(body), {k: np.asarray(v) for k, v in constants.items()})
    assert [op for op in run.ops if op not in {"RESHAPE", "TRANSPOSE"}] == operators


@pytest.mark.parametrize(("op", "lsb"), [("Sigmoid", 3), ("Tanh", 12), ("Softmax", 12)])
def test_kernels_that_set_their_output(op: str, lsb: int) -> None:
    check(f"g (float[2, 50] x) => (float[] y) {{ y = {op} (x) }}", lsb=lsb, share=1.0)


def test_a_bias_is_written_as_int64_and_counts_in_the_same_steps() -> None:
    model = parse(CONV.format("y = Conv (x, w, b)"), {**W, **B})
    qdq = quantized(model, ends="int16", target=TARGET)
    stored = next(v for n, v in qdq.graph.initializers.items() if n == "b_quantized")
    assert stored.dtype == ir.DataType.INT32, "what DequantizeLinear takes"
    graph = graph_of(lowered(qdq, target=TARGET))
    (conv,) = graph.operators
    x, w, bias = (graph.tensor(i) for i in conv.inputs)
    assert x is not None and w is not None and bias is not None
    assert [t.dtype for t in (x, w, bias)] == ["int16", "int8", "int64"]
    assert conv.version == 4
    assert stored.const_value is not None
    np.testing.assert_array_equal(bias.array, stored.const_value.numpy())


def test_sums_of_more_than_32_bits_are_right_and_weights_keep_their_scales() -> None:
    """2048 products of 127 and 32767: an int32 sum would have wrapped, 48 bits hold it."""
    w = np.ones((2048, 3), np.float32)
    text = "g (float[1, 2048] x) => (float[] y) { y = Gemm (x, w, b) }"
    model = parse(text, {"w": w, "b": rand(3)})
    feeds = [{"x": np.full((1, 2048), s, np.float32)} for s in (-1, 1)]
    wide = planned(model, feeds, target=TARGET, ends="int16")
    narrow = planned(model, feeds, target=NARROW, ends="int8")
    scales = [p.plan.values["w"].params for p in (wide, narrow)]
    assert scales[0] is not None and scales[1] is not None
    assert scales[0].same_as(scales[1])
    qdq = wide.qdq(["x", "y"])
    run = lowered(qdq, target=TARGET)
    given = {"x": np.full((1, 2048), 32767, np.int16)}
    (want,) = session(qdq).run(given)
    assert int(want.max()) > 32000
    for kernels in KERNELS:
        assert deviation(run.outputs(given, kernels)[0], want).lsb <= 1


def test_ops_without_an_int16_kernel_stay_float_with_the_reason() -> None:
    text = "g (float[1, 4, 6, 6] x) => (float[] y) { c = Conv (x, w, b) y = HardSwish (c) }"
    model = parse(text, {**W, **B})
    made = planned(model, [noise(model)], target=TARGET, ends="int16")
    (node,) = [n for n in made.plan.nodes.values() if n.op == "HardSwish"]
    assert (node.mode, node.reason) == ("float", "HARD_SWISH takes no int16")
    run = lowered(made.qdq(["x", "y"]), target=TARGET)
    assert run.ops[:3] == ["CONV_2D", "DEQUANTIZE", "HARD_SWISH"]


def test_arg_max_compares_floats() -> None:
    model = parse("g (float[1, 4, 6, 6] x) => (int64[] y) { c = Conv (x, w) y = ArgMax (c) }", W)
    qdq = planned(model, [noise(model)], target=TARGET).qdq()
    run = lowered(qdq, target=TARGET)
    assert run.ops[-3:-1] == ["DEQUANTIZE", "ARG_MAX"]
    feeds = noise(model, 3)
    np.testing.assert_array_equal(run.outputs(feeds)[0], session(qdq).run(feeds)[0])


@settings(max_examples=120, deadline=None, derandomize=True, database=None)
@given(st.sampled_from(list(NODES)), st.integers(0, 6), st.integers(0, 2**32 - 1))
def test_random_graphs_give_what_their_qdq_graph_gives(op: str, size: int, seed: int) -> None:
    model = graph(op, size, seed).finished()
    qdq = quantized(model, ends="float", target=TARGET)
    run = lowered(qdq, target=TARGET)
    feeds = noise(model, seed % 100)
    for got, want in zip(run.outputs(feeds, "builtin"), session(qdq).run(feeds), strict=True):
        if want.dtype != np.float32:
            np.testing.assert_array_equal(got, want)
            continue
        # A step of a result is 2^-15 of it; a Reciprocal or Log enlarges those of its input.
        largest = max(float(np.abs(want).max(initial=0)), 1e-6)
        assert float(np.abs(got - want).max(initial=0)) <= 0.005 * largest


# --- the description ---------------------------------------------------------------------------


def takes_int16(kernel: str) -> bool:
    row = TABLE[kernel]
    return any(
        "int16" in kinds and form.version <= row.newest[TARGET.min_runtime]
        for form in row.forms
        for kinds in form.inputs
    )


@pytest.mark.parametrize("op", TARGET.ops)
def test_every_rule_has_kernels_of_int16(op: str) -> None:
    rule: OpRule = TARGET.ops[op]
    kernels = [k for k in rule.kernels if takes_int16(k)]
    assert kernels, rule.kernels
    for kernel in kernels:
        fixed = TABLE[kernel].fixed.get("int16")
        assert (fixed is None) == (rule.fixed_output is None), kernel
        if fixed is not None and rule.fixed_output is not None:
            assert fixed == (rule.fixed_output.scale, rule.fixed_output.zero_point)


def test_every_rule_that_is_gone_has_its_sentence() -> None:
    gone = set(NARROW.ops) - set(TARGET.ops)
    assert gone == set(TARGET.float_ops) - set(NARROW.float_ops)
    for op in gone:
        named = [k for k in NARROW.ops[op].kernels if k != "TRANSPOSE" and takes_int16(k)]
        assert named in ([], ["GATHER"]), (op, named)


def test_the_cost_is_told() -> None:
    assert NARROW.cost == ""
    assert "29 times" in TARGET.cost
    assert "w8a16" not in load_target("tflite-micro").schemes
