"""Conv and ConvTranspose: float like ONNX Runtime, integers like the QDQ graph, no TRANSPOSE."""

import numpy as np
import pytest

from qcompile.core.errors import QCompileError
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.targets.tflite.prove import executed
from tests.passes.planning import draft, session
from tests.targets.tflite.lowering import (
    RESOLVERS,
    TARGET,
    check_float,
    check_integer,
    check_integer_graph,
    lowered,
    noise,
    parse,
)

RNG = np.random.default_rng(3)


def weights(*shape: int) -> dict[str, np.ndarray]:
    """A weight with channels of different ranges, and a bias."""
    w = RNG.standard_normal(shape) * np.geomspace(0.1, 1, shape[0]).reshape(
        -1, *[1] * len(shape[1:])
    )
    return {"w": w.astype(np.float32), "b": RNG.standard_normal(shape[0]).astype(np.float32)}


def conv(attributes: str, x: str = "1,4,9,10", tail: str = "") -> str:
    body = f"y = Conv<{attributes}>(x, w, b)"
    if tail:
        body = f"h = Conv<{attributes}>(x, w, b) {tail}"
    return f"g (float[{x}] x) => (float[n,c,h,w] y) {{ {body} }}"


CASES = {
    "plain": ("", (6, 4, 3, 3)),
    "same": ("pads=[1,1,1,1]", (6, 4, 3, 3)),
    "stride": ("pads=[1,1,1,1], strides=[2,2]", (6, 4, 3, 3)),
    "same_upper": ('auto_pad="SAME_UPPER", strides=[2,2]', (6, 4, 3, 3)),
    "same_lower": ('auto_pad="SAME_LOWER", strides=[2,3]', (6, 4, 4, 3)),
    "valid": ('auto_pad="VALID", strides=[2,1]', (6, 4, 3, 2)),
    "lopsided": ("pads=[0,2,3,1]", (6, 4, 3, 3)),
    "dilated": ("pads=[2,2,2,2], dilations=[2,2]", (6, 4, 3, 3)),
    "dilated_stride": ("pads=[2,1,2,1], dilations=[2,1], strides=[2,2]", (6, 4, 3, 3)),
    "pointwise": ("", (8, 4, 1, 1)),
    "grouped": ("group=2, pads=[1,1,1,1]", (6, 2, 3, 3)),
    "depthwise": ("group=4, pads=[1,1,1,1]", (4, 1, 3, 3)),
    "depthwise_x2": ("group=4, pads=[1,1,1,1]", (8, 1, 3, 3)),
    "depthwise_dilated": ("group=4, pads=[2,2,2,2], dilations=[2,2]", (12, 1, 3, 3)),
}


@pytest.mark.parametrize("case", CASES)
def test_float(case: str) -> None:
    attributes, shape = CASES[case]
    run = check_float(conv(attributes), weights(*shape))
    assert run.count["TRANSPOSE"] == 0
    assert run.count["CONV_2D"] + run.count["DEPTHWISE_CONV_2D"] == 1


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("case", CASES)
def test_integer(case: str, granularity: str) -> None:
    attributes, shape = CASES[case]
    run = check_integer(conv(attributes), weights(*shape), granularity=granularity)
    assert set(run.count) <= {"CONV_2D", "DEPTHWISE_CONV_2D", "PAD"}


@pytest.mark.parametrize(
    ("case", "pads"), [("same", 0), ("stride", 1), ("same_upper", 0), ("valid", 0), ("lopsided", 1)]
)
def test_pad_only_where_same_and_valid_do_not_fit(case: str, pads: int) -> None:
    attributes, shape = CASES[case]
    assert check_float(conv(attributes), weights(*shape)).count["PAD"] == pads


@pytest.mark.parametrize(
    "tail", ["y = Relu(h)", "y = Clip(h, zero, six)", "y = Clip(h, minus, one)"]
)
def test_clamps_are_fused(tail: str) -> None:
    bounds = {k: np.float32(v) for k, v in {"zero": 0, "six": 6, "minus": -1, "one": 1}.items()}
    text = conv("pads=[1,1,1,1]", tail=tail)
    constants = {**weights(6, 4, 3, 3), **bounds}
    assert check_float(text, constants).ops == ["CONV_2D"]
    if "minus" not in tail:  # one of both signs has a quantizer before it
        assert check_integer(text, constants).ops == ["CONV_2D"]


def test_other_clamps_follow() -> None:
    constants = {**weights(6, 4, 3, 3), "low": np.float32(-0.5), "high": np.float32(2.0)}
    text = conv("pads=[1,1,1,1]", tail="y = Clip(h, low, high)")
    assert check_float(text, constants).ops == ["CONV_2D", "MAXIMUM", "MINIMUM"]
    assert check_integer(text, constants).count["CONV_2D"] == 1


def test_without_bias() -> None:
    text = "g (float[1,4,9,10] x) => (float[n,c,h,w] y) { y = Conv(x, w) }"
    constants = {"w": weights(6, 4, 3, 3)["w"]}
    check_float(text, constants)
    check_integer(text, constants)


@pytest.mark.parametrize(
    "attributes", ["", "pads=[2,1]", "strides=[2], pads=[1,1]", "dilations=[2]"]
)
def test_signals(attributes: str) -> None:
    text = f"g (float[2,4,12] x) => (float[n,c,l] y) {{ y = Conv<{attributes}>(x, w, b) }}"
    constants = weights(6, 4, 3)
    assert check_float(text, constants).count["TRANSPOSE"] == 0
    assert check_integer(text, constants, share=0.02).count["CONV_2D"] == 1


def test_no_reshape_between_signals() -> None:
    text = """g (float[2,4,12] x) => (float[n,c,l] y) {
        a = Conv<pads=[1,1]>(x, w, b) c = Relu(a) y = Conv<pads=[1,1]>(c, v, b) }"""
    constants = {**weights(6, 4, 3), "v": weights(6, 6, 3)["w"]}
    between = ["RESHAPE", "CONV_2D", "CONV_2D", "RESHAPE"]
    assert check_float(text, constants).ops == between
    assert check_integer(text, constants, share=0.02).ops == between


def transposed(attributes: str) -> str:
    return f"""g (float[1,4,5,6] x) => (float[n,c,h,w] y) {{
        y = ConvTranspose<{attributes}>(x, w, b) }}"""


TRANSPOSED = {
    "full": ("strides=[2,2]", ["TRANSPOSE_CONV"]),
    "one": ("", ["TRANSPOSE_CONV"]),
    "same": ('strides=[2,2], auto_pad="SAME_UPPER"', ["TRANSPOSE_CONV"]),
    "cropped": ("strides=[2,2], pads=[1,1,1,1]", ["TRANSPOSE_CONV", "SLICE"]),
    "lopsided": ("strides=[2,1], pads=[0,1,1,0]", ["TRANSPOSE_CONV", "SLICE"]),
}


@pytest.mark.parametrize("case", TRANSPOSED)
def test_transposed(case: str) -> None:
    attributes, ops = TRANSPOSED[case]
    constants = {**weights(4, 3, 3, 3), "b": np.asarray([0.5, -1, 2], np.float32)}
    assert check_float(transposed(attributes), constants).ops == ops
    assert check_integer(transposed(attributes), constants).ops == ops


def test_transposed_with_output_padding() -> None:
    constants = {**weights(4, 3, 3, 3), "b": np.asarray([0.5, -1, 2], np.float32)}
    check_float(transposed("strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]"), constants)
    check_float(transposed("strides=[2,2], output_padding=[1,1]"), constants)


def test_bias_that_counts_in_other_steps_is_counted_anew() -> None:
    text = """g (int8[1,2,5,6] x) => (int8[1,3,5,6] y) {
        a = DequantizeLinear(x, s, q) k = DequantizeLinear(w, t, o) c = DequantizeLinear(b, u)
        h = Conv(a, k, c) y = QuantizeLinear(h, v, q) }"""
    constants = {
        "w": RNG.integers(-127, 128, (3, 2, 1, 1), dtype=np.int8),
        "b": np.asarray([40000, -30000, 2000], np.int32),
        "s": np.float32(0.05),
        "t": np.float32(0.01),
        "u": np.float32(0.0001),
        "v": np.float32(0.1),
        "q": np.int8(3),
        "o": np.int8(0),
    }
    assert check_integer_graph(parse(text, constants)).ops == ["CONV_2D"]


REFUSED = {
    "three dimensions": (
        "g (float[1,2,5,5,5] x) => (float[n,c,d,h,w] y) { y = Conv(x, w) }",
        (2, 2, 3, 3, 3),
        "3 spatial dimensions",
    ),
    "groups": (
        "g (float[1,4,5,5] x) => (float[n,c,h,w] y) { y = ConvTranspose<group=2>(x, w) }",
        (4, 2, 3, 3),
        "one group",
    ),
    "dilation": (
        "g (float[1,4,5,5] x) => (float[n,c,h,w] y) { y = ConvTranspose<dilations=[2,2]>(x, w) }",
        (4, 2, 3, 3),
        "no dilation",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    text, shape, why = REFUSED[case]
    with pytest.raises(QCompileError, match=why) as error:
        lowered(parse(text, {"w": np.ones(shape, np.float32)}))
    assert error.value.node


def test_computed_weight_is_refused() -> None:
    text = "g (float[1,2,5,5] x, float[2,2,3,3] w) => (float[n,c,h,w] y) { y = Conv(x, w) }"
    with pytest.raises(QCompileError, match="weight is computed"):
        lowered(parse(text))


@pytest.mark.parametrize("tail", ["", "y = Relu(h)"])
@pytest.mark.parametrize("case", [c for c in CASES if "group" not in CASES[c][0]])
def test_activations_quantized_as_it_runs(case: str, tail: str) -> None:
    """Integers for the weights, floats around; near what the graph with dynamic scales gives."""
    attributes, shape = CASES[case]
    model = parse(conv(attributes, tail=tail), weights(*shape))
    plan = draft(model, target=TARGET, scheme="w8a8-dynamic")
    choose_weights(model.graph, plan, TARGET, None)
    qdq = model.clone()
    InsertQDQ(plan)(qdq)
    assert "DynamicQuantizeLinear" in [node.op_type for node in qdq.graph]
    run, feeds = lowered(qdq), noise(model)
    (layer,) = [o for o in executed(run.lowered.data).operators if o.op == "CONV_2D"]
    assert layer.integer
    assert layer.delegated
    assert "TRANSPOSE" not in run.ops
    (want,) = session(qdq).run(feeds)
    for kernels in RESOLVERS:
        (got,) = run.outputs(feeds, kernels)
        assert np.abs(got - want).max() < 0.02 * np.abs(want).max()
