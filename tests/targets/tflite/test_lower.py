"""From graph to file: ends and their layout, islands, refusals, metadata, determinism."""

import json

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.backend import TARGET_KEY
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.lower import LAYOUT_KEY, lower, lower_with_notes
from qcompile.targets.tflite.schema import schema
from tests.passes.planning import session
from tests.targets.tflite.lowering import (
    TARGET,
    check_float,
    check_integer,
    check_integer_graph,
    lowered,
    noise,
    parse,
    quantized,
)

RNG = np.random.default_rng(9)
WEIGHTS = {
    "k": RNG.standard_normal((4, 3, 3, 3)).astype(np.float32),
    "m": RNG.standard_normal((2, 4, 1, 1)).astype(np.float32),
    "b": RNG.standard_normal(4).astype(np.float32),
    "c": RNG.standard_normal(2).astype(np.float32),
}
CNN = """g (float[1,3,8,10] x) => (float[n] y) {
    h = Conv<pads=[1,1,1,1]>(x, k, b) r = Relu(h) y = Conv(r, m, c) }"""
NHWC = """g (float[1,8,10,3] x) => (float[n] y) {
    t = Transpose<perm=[0,3,1,2]>(x) h = Conv<pads=[1,1,1,1]>(t, k, b) r = Relu(h)
    o = Conv(r, m, c) y = Transpose<perm=[0,2,3,1]>(o) }"""
LAST = (0, 2, 3, 1)


def metadata(data: bytes) -> dict[str, bytes]:
    model = schema().ModelT.InitFromObj(schema().Model.GetRootAsModel(data, 0))
    return {m.name.decode(): bytes(model.buffers[m.buffer].data) for m in model.metadata}


def test_ends_of_a_cnn_are_channels_last() -> None:
    for run in (check_float(CNN, WEIGHTS), check_integer(CNN, WEIGHTS, lsb=2, share=0.05)):
        assert run.ops == ["CONV_2D", "CONV_2D"]
        ends = run.lowered.ends
        assert [(e.name, e.perm) for e in (*ends.inputs, *ends.outputs)] == [
            ("x", LAST),
            ("y", LAST),
        ]
        layout = json.loads(metadata(run.lowered.data)[LAYOUT_KEY])
        assert layout == {"x": list(LAST), "y": list(LAST)}
        assert not run.lowered.notes


def test_ends_in_the_order_of_onnx_cost_a_transpose_each_and_say_why() -> None:
    run = check_float(CNN, WEIGHTS, io_layout="nchw")
    assert run.ops == ["TRANSPOSE", "CONV_2D", "CONV_2D", "TRANSPOSE"]
    assert [e.perm for e in (*run.lowered.ends.inputs, *run.lowered.ends.outputs)] == [
        (0, 1, 2, 3)
    ] * 2
    first, second = (note.message for note in run.lowered.notes)
    assert first.startswith("x is transposed: Conv ")
    assert "output y: ONNX's order is asked for" in second
    assert LAYOUT_KEY not in metadata(run.lowered.data)


@pytest.mark.parametrize("io_layout", ["nhwc", "nchw"])
def test_a_model_that_is_channels_last_itself_has_no_transpose(io_layout: str) -> None:
    run = check_float(NHWC, WEIGHTS, io_layout=io_layout)  # type: ignore[arg-type]
    assert run.ops == ["CONV_2D", "CONV_2D"]
    assert [e.perm for e in (*run.lowered.ends.inputs, *run.lowered.ends.outputs)] == [
        (0, 1, 2, 3)
    ] * 2
    assert check_integer(NHWC, WEIGHTS, lsb=2, share=0.05).ops == ["CONV_2D", "CONV_2D"]


def test_the_wish_passes_through_what_works_on_any_layout() -> None:
    text = """g (float[1,3,8,10] x) => (float[n] y) {
        s = Mul(x, u) a = Add(s, v) h = Conv(a, k, b) y = ReduceMean<keepdims=0>(h, axes) }"""
    constants = {
        "k": WEIGHTS["k"],
        "b": WEIGHTS["b"],
        "u": np.ones((3, 1, 1), np.float32),
        "v": np.ones(1, np.float32),
        "axes": np.asarray([2, 3]),
    }
    run = check_float(text, constants)
    assert run.count["TRANSPOSE"] == 0
    assert run.lowered.ends.inputs[0].perm == LAST


def test_an_input_that_nothing_wants_turned_stays() -> None:
    run = check_float("g (float[1,3,8,10] x) => (float[n] y) { y = Mul(x, x) }")
    assert run.lowered.ends.inputs[0].perm == (0, 1, 2, 3)


def test_ends_tell_parameters_and_names() -> None:
    model = parse(CNN, WEIGHTS)
    run = lowered(quantized(model))
    x, y = run.lowered.ends.inputs[0], run.lowered.ends.outputs[0]
    assert (x.dtype, x.shape, x.tensor) == ("int8", (1, 3, 8, 10), "x")
    assert (y.dtype, y.shape, y.tensor) == ("int8", (1, 2, 8, 10), "y")
    assert x.quantization is not None
    assert x.quantization.scale.shape == (1,)


def test_float_ends_are_converted_at_the_border() -> None:
    model = parse(CNN, WEIGHTS)
    qdq = quantized(model, ends="float")
    run = lowered(qdq)
    assert run.ops == ["QUANTIZE", "CONV_2D", "CONV_2D", "DEQUANTIZE"]
    feeds = noise(model)
    want = session(qdq).run(feeds)[0]
    got = run.outputs(feeds)[0]
    step = run.lowered.ends.outputs[0]
    assert step.dtype == "float32"
    assert np.abs(got - want).max() <= 2.01 * np.unique(np.abs(np.diff(np.unique(want)))).min()


ISLAND = """g (int8[1,40] x) => (int8[1,40] y) {
    a = DequantizeLinear(x, s, z) c = Cos(a) d = Cos(c) e = Add(d, a)
    y = QuantizeLinear(e, s, z) }"""
ENDS = {"s": np.float32(0.05), "z": np.int8(3)}


def test_a_float_island_amid_integers() -> None:
    run = check_integer_graph(parse(ISLAND, ENDS), runtimes=("builtin",))
    assert run.count["DEQUANTIZE"] == 1  # once, though two read it
    assert run.ops[-1] == "QUANTIZE"


def test_a_value_read_by_integers_and_floats() -> None:
    text = """g (int8[1,40] x) => (int8[1,40] y, float[1,40] w) {
        a = DequantizeLinear(x, s, z) b = Add(a, a) c = QuantizeLinear(b, s, z)
        w = DequantizeLinear(c, s, z) d = Mul(w, w) y = QuantizeLinear(d, s, z) }"""
    run = lowered(parse(text, ENDS))
    assert run.ops == ["ADD", "DEQUANTIZE", "MUL"]


def test_requantizing() -> None:
    text = """g (int8[1,40] x) => (int8[1,40] y) {
        a = DequantizeLinear(x, s, z) y = QuantizeLinear(a, t, z) }"""
    run = check_integer_graph(parse(text, {**ENDS, "t": np.float32(0.07)}), share=0.05)
    assert run.ops == ["QUANTIZE"]


def test_an_output_that_is_an_input_or_two_outputs() -> None:
    text = """g (float[2,3] x) => (float[2,3] y, float[2,3] z, float[2,3] w) {
        y = Identity(x) a = Add(x, x) z = Identity(a) w = Identity(a) }"""
    run = check_float(text)
    assert len({e.tensor for e in (*run.lowered.ends.inputs, *run.lowered.ends.outputs)}) == 4


def test_a_constant_output() -> None:
    text = "g (float[2,3] x) => (float[2,3] y, float[3] z) { y = Add(x, x) z = Identity(c) }"
    check_float(text, {"c": np.asarray([1, 2, 3], np.float32)})


def test_unknown_op_names_the_node() -> None:
    text = "g (float[2,3] x) => (float[2,3] y) { y = Det(x) }".replace("Det", "Hardmax")
    with pytest.raises(QCompileError, match="Hardmax cannot be written for tflite-arm64") as error:
        lowered(parse(text))
    assert error.value.code is Code.SCHEME_UNSUPPORTED
    assert error.value.node == "Hardmax_0"


def test_integers_that_an_operator_does_not_take() -> None:
    text = "g (int64[2,3] x) => (int64[2,3] y) { y = Mul(x, x) }"
    with pytest.raises(QCompileError, match="TFLite has no MUL of int64") as error:
        lower(parse(text), TARGET)
    assert error.value.code is Code.SCHEME_UNSUPPORTED
    assert error.value.node


def test_unknown_shapes_are_refused() -> None:
    text = "g (float[n,3] x) => (float[n,3] y) { y = Add(x, x) }"
    with pytest.raises(QCompileError) as error:
        lowered(parse(text))
    assert error.value.code is Code.SHAPE_NOT_STATIC
    assert error.value.hint


def test_scales_a_channel_on_an_activation_are_refused() -> None:
    text = """g (float[2,3] x) => (int8[2,3] y) { y = QuantizeLinear<axis=1>(x, s, z) }"""
    constants = {"s": np.full(3, 0.1, np.float32), "z": np.zeros(3, np.int8)}
    with pytest.raises(QCompileError, match="one scale for all"):
        lowered(parse(text, constants))


def test_parameters_that_are_computed_are_refused() -> None:
    text = """g (float[2,3] x, float s) => (int8[2,3] y) { y = QuantizeLinear(x, s, z) }"""
    with pytest.raises(QCompileError, match="computed as the model runs"):
        lowered(parse(text, {"z": np.int8(0)}))


def test_metadata_and_equal_bytes() -> None:
    qdq = quantized(parse(CNN, WEIGHTS))
    before = ir.to_proto(qdq).SerializeToString(deterministic=True)
    data = lower(qdq, TARGET)
    assert data == lower(qdq, TARGET)
    assert data == lower(ir.from_proto(ir.to_proto(qdq)), TARGET)
    assert ir.to_proto(qdq).SerializeToString(deterministic=True) == before
    found = metadata(data)
    assert found[TARGET_KEY] == b"tflite-arm64"
    assert found["min_runtime_version"] == TARGET.min_runtime.encode().ljust(16, b"\0")


def test_weights_stand_in_the_file_once() -> None:
    w = RNG.standard_normal((64, 64, 3, 3)).astype(np.float32)
    text = "g (float[1,64,8,8] x) => (float[n] y) { y = Conv(x, w) }"
    data = lower_with_notes(parse(text, {"w": w}), TARGET).data
    assert w.nbytes < len(data) < w.nbytes + 4000
