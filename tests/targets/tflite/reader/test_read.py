"""What a file says stays as it is: names, layout, scales, batch; what is inside has ONNX's form."""

from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Builder, Options, Quantization, packed
from qcompile.targets.tflite.qdq import ORIGIN_KEY
from qcompile.targets.tflite.reader.read import read_model
from tests.targets.tflite import sound as m
from tests.targets.tflite.reader.nets import CONV, POOL, RNG, finish, network, noise
from tests.targets.tflite.reader.reading import both, ops, proto_of, session
from tests.targets.tflite.sound import changed, q, sound


def dims(value: onnx.ValueInfoProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


# --- layout ----------------------------------------------------------------------------------


def test_a_picture_has_channels_first_inside_and_one_transpose_at_the_border() -> None:
    proto = proto_of(network())
    assert ops(proto)["Transpose"] == 1
    assert [n.op_type for n in proto.graph.node][:3] == ["Transpose", "Conv", "Clip"]
    assert dims(proto.graph.input[0]) == [1, 4, 6, 3]
    found = both(network())
    assert found.largest <= 1e-6 * found.peak


def test_a_picture_that_leaves_has_its_channels_last_again() -> None:
    b = Builder()
    x, y = b.tensor("x", (1, 4, 6, 3), "float32"), b.tensor("y", (1, 2, 3, 3), "float32")
    b.operator("AVERAGE_POOL_2D", [x], [y], Options("Pool2DOptions", POOL))
    proto = proto_of(finish(b, [x], [y]))
    assert [n.op_type for n in proto.graph.node] == ["Transpose", "AveragePool", "Transpose"]
    assert dims(proto.graph.output[0]) == [1, 2, 3, 3]


def test_a_transpose_of_the_file_is_only_another_order() -> None:
    b = Builder()
    x, y = b.tensor("x", (1, 4, 6, 3), "float32"), b.tensor("y", (1, 2, 3, 3), "float32")
    perm = b.tensor("perm", (4,), "int32", None, np.array([0, 3, 1, 2], np.int32))
    turned = b.tensor("turned", (1, 3, 2, 3), "float32")
    b.operator("AVERAGE_POOL_2D", [x], [y], Options("Pool2DOptions", POOL))
    b.operator("TRANSPOSE", [y, perm], [turned], Options("TransposeOptions", {}))
    data = finish(b, [x], [turned])
    assert [n.op_type for n in proto_of(data).graph.node] == ["Transpose", "AveragePool"]
    assert both(data).largest == 0


@pytest.mark.parametrize("shape", [(8,), (6, 8), (1, 6, 8), (4, 1, 1), (4, 6, 1)])
def test_an_operand_of_a_lower_rank_is_lined_up_from_the_last_axis(shape: tuple[int, ...]) -> None:
    for is_constant in (False, True):
        b = Builder()
        x, p = b.tensor("x", (1, 8, 12, 8), "float32"), b.tensor("p", (1, 4, 6, 8), "float32")
        b.operator("AVERAGE_POOL_2D", [x], [p], Options("Pool2DOptions", POOL))
        other = b.tensor("o", shape, "float32", None, noise(*shape) if is_constant else None)
        y = b.tensor("y", (1, 4, 6, 8), "float32")
        b.operator("MUL", [p, other], [y], Options("MulOptions", {}))
        found = both(finish(b, [x] if is_constant else [x, other], [y]))
        assert found.largest <= 1e-6


# --- names and ends --------------------------------------------------------------------------


def test_ends_have_the_names_of_the_signature() -> None:
    b = Builder()
    x, y = b.tensor("serving_default_x:0", (1, 4), "float32"), b.tensor("call:0", (1, 4), "float32")
    b.operator("RELU", [x], [y])
    proto = proto_of(b.finish([x], [y], names=(["pixels"], ["scores"]), description="t"))
    assert [v.name for v in proto.graph.input] == ["pixels"]
    assert [v.name for v in proto.graph.output] == ["scores"]
    assert [n.name for n in proto.graph.node] == ["call:0"]


def test_without_a_signature_they_have_those_of_the_tensors() -> None:
    def drop(model: Any) -> None:
        model.signatureDefs = None

    proto = proto_of(changed(network(), drop))
    assert [v.name for v in (*proto.graph.input, *proto.graph.output)] == ["x", "y"]


def test_an_input_that_is_an_output_and_a_constant_output() -> None:
    b = Builder()
    x = b.tensor("x", (1, 3), "float32")
    y = b.tensor("y", (1, 3), "float32")
    c = b.tensor("c", (2,), "float32", None, noise(2))
    b.operator("RELU", [x], [y])
    data = b.finish([x], [y, x, c], names=(["x"], ["y", "same", "c"]), description="t")
    proto = proto_of(data)
    assert [v.name for v in proto.graph.output] == ["y", "same", "c"]
    x_value = noise(1, 3)
    _, same, _ = session(proto).run(None, {proto.graph.input[0].name: x_value})
    np.testing.assert_array_equal(same, x_value)


def test_what_no_output_depends_on_is_left_out() -> None:
    def unread(model: Any) -> None:
        model.subgraphs[0].outputs = np.array([m.FLAT], np.int32)
        model.signatureDefs = None

    proto = proto_of(changed(sound(), unread))
    assert ops(proto)["Softmax"] == 0 and ops(proto)["Gemm"] == 0


# --- quantization ----------------------------------------------------------------------------


def constants(proto: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_every_scale_and_zero_point_is_kept(kind: str) -> None:
    data = sound(kind)
    proto = proto_of(data)
    assert both(data).largest <= 1
    known = constants(proto)
    seen = {}
    for node in proto.graph.node:
        if node.op_type == "DequantizeLinear":
            zero = known[node.input[2]] if len(node.input) > 2 else np.zeros(())
            axis = next((a.i for a in node.attribute if a.name == "axis"), None)
            seen[node.output[0]] = (known[node.input[1]], zero, axis)
    scale, zero, axis = seen["w_dequantized"]
    np.testing.assert_array_equal(scale, np.array([0.01, 0.02, 0.015, 0.03], np.float32))
    assert axis == 0 and not zero.any()
    assert known["w_quantized"].shape == (4, 2, 3, 3)
    scale, _, axis = seen["b_dequantized"]
    weights = np.array([0.01, 0.02, 0.015, 0.03], np.float32)
    np.testing.assert_array_equal(scale, weights * np.float32(0.05))
    assert axis == 0 and known["b_quantized"].dtype == np.int32
    low = 0 if kind == "int16" else -128
    assert seen["conv_dequantized"][:2] == (np.float32(0.1), low)
    assert {v.type.tensor_type.elem_type for v in proto.graph.input} == {
        onnx.TensorProto.INT8 if kind == "int8" else onnx.TensorProto.INT16
    }


def test_nodes_of_quantized_operators_say_which_they_were() -> None:
    model = read_model(sound()).model
    told = {n.op_type: n.metadata_props.get(ORIGIN_KEY) for n in model.graph}
    assert (told["Conv"], told["Gemm"], told["Softmax"]) == (
        "CONV_2D",
        "FULLY_CONNECTED",
        "SOFTMAX",
    )
    floats = read_model(network()).model
    assert not any(ORIGIN_KEY in n.metadata_props for n in floats.graph)


def test_the_axis_of_scales_follows_the_layout() -> None:
    b = Builder()
    x, y = b.tensor("x", (1, 4, 4, 2), "float32"), b.tensor("y", (1, 4, 4, 4), "float32")
    scale = Quantization.of(np.array([0.1, 0.2, 0.3, 0.4], np.float32), np.zeros(4), 3)
    integers = RNG.integers(-127, 128, (1, 3, 3, 4)).astype(np.int8)
    w = b.tensor("w", (1, 3, 3, 4), "int8", scale, integers)
    bias = b.tensor("b", (4,), "float32", None, noise(4))
    options = Options("DepthwiseConv2DOptions", {**CONV, "depthMultiplier": 2})
    b.operator("DEPTHWISE_CONV_2D", [x, w, bias], [y], options)
    proto = proto_of(finish(b, [x], [y]))
    (back,) = (n for n in proto.graph.node if n.op_type == "DequantizeLinear")
    assert [a.i for a in back.attribute if a.name == "axis"] == [0]
    np.testing.assert_array_equal(constants(proto)["w_quantized"], integers.transpose(3, 0, 1, 2))
    (conv,) = (n for n in proto.graph.node if n.op_type == "Conv")
    assert {a.name: a.i for a in conv.attribute}["group"] == 2


def test_weights_of_4_bits_are_integers_of_4_bits() -> None:
    b = Builder()
    x, y = b.tensor("x", (1, 6), "float32"), b.tensor("y", (1, 3), "float32")
    integers = RNG.integers(-7, 8, (3, 6)).astype(np.int8)
    w = b.tensor("w", (3, 6), "int4", q(0.1), packed(integers, "int4"))
    b.operator("FULLY_CONNECTED", [x, w, -1], [y], Options("FullyConnectedOptions", {}))
    proto = proto_of(finish(b, [x], [y]))
    (stored,) = (i for i in proto.graph.initializer if i.name == "w_quantized")
    assert stored.data_type == onnx.TensorProto.INT4
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(stored).astype(np.int8), integers)


def test_a_bias_that_int32_does_not_hold_is_floats() -> None:
    def widen(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[m.CONV_BIAS]
        model.buffers[tensor.buffer].data = np.array([1 << 40, 0, 1, 2], np.int64).view(np.uint8)

    known = constants(proto_of(changed(sound("int16"), widen)))
    assert known["b"].dtype == np.float32
    assert known["b"][0] == pytest.approx(0.01 * 0.05 * 2.0**40, rel=1e-6)


def test_float16_weights_behind_dequantize_are_floats() -> None:
    b = Builder()
    x, y = b.tensor("x", (1, 6), "float32"), b.tensor("y", (1, 3), "float32")
    half = b.tensor("half", (3, 6), "float16", None, noise(3, 6).astype(np.float16))
    full = b.tensor("full", (3, 6), "float32")
    b.operator("DEQUANTIZE", [half], [full], Options("DequantizeOptions", {}))
    b.operator("FULLY_CONNECTED", [x, full, -1], [y], Options("FullyConnectedOptions", {}))
    data = finish(b, [x], [y])
    assert [n.op_type for n in proto_of(data).graph.node] == ["Gemm"]
    assert both(data).largest <= 1e-6


@pytest.mark.parametrize("with_bias", [False, True])
def test_rows_of_more_axes_keep_them_with_scales_and_without(with_bias: bool) -> None:
    for quantized in (False, True):
        b = Builder()
        kind, params = ("int8", q(0.05, 3)) if quantized else ("float32", None)
        x, y = b.tensor("x", (2, 5, 6), kind, params), b.tensor("y", (2, 5, 3), kind, params)
        w = noise(3, 6) if not quantized else RNG.integers(-127, 128, (3, 6)).astype(np.int8)
        bias = noise(3) if not quantized else np.array([9, -70, 200], np.int32)
        matrix = b.tensor("w", (3, 6), kind, q(0.01) if quantized else None, w)
        last = -1
        if with_bias:
            bias_params = q(np.float32(0.05) * np.float32(0.01)) if quantized else None
            last = b.tensor("b", (3,), bias.dtype.name, bias_params, bias)
        options = Options("FullyConnectedOptions", {"keepNumDims": True})
        b.operator("FULLY_CONNECTED", [x, matrix, last], [y], options, version=5)
        assert both(finish(b, [x], [y])).largest <= (1 if quantized else 1e-6)


# --- batch and shapes ------------------------------------------------------------------------


def test_a_batch_that_the_file_leaves_open_stays_open() -> None:
    data = network((-1, 4, 6, 3))
    proto = proto_of(data)
    assert dims(proto.graph.input[0]) == ["batch", 4, 6, 3]
    assert dims(proto.graph.output[0]) == ["batch", 5]
    many = noise(3, 4, 6, 3)
    (whole,) = session(proto).run(None, {"x": many})
    each = [both(data, {"x": many[i : i + 1]}).wanted[0] for i in range(3)]
    np.testing.assert_allclose(whole, np.concatenate(each), rtol=1e-5, atol=1e-5)


def test_an_operator_that_mixes_samples_fixes_the_batch_and_says_so() -> None:
    b = Builder()
    x, y = b.tensor("x", (1, 4), "float32", signature=(-1, 4)), b.tensor("y", (4,), "float32")
    axes = b.tensor("axes", (1,), "int32", None, np.array([0], np.int32))
    b.operator("MEAN", [x, axes], [y], Options("ReducerOptions", {"keepDims": False}))
    read = read_model(finish(b, [x], [y]))
    assert [n.message for n in read.notes] == ["the batch is fixed to 1: MEAN mixes samples"]
    assert read.model.graph.inputs[0].shape == (1, 4)


def computed_shape(signature: tuple[int, ...], columns: int = 6) -> bytes:
    """A RESHAPE to [SHAPE(x)[0], columns], as converters write it for an open batch."""
    b = Builder()
    x = b.tensor("x", (1, 2, 3, 1), "float32", signature=signature)
    shape = b.tensor("shape", (4,), "int32")
    b.operator("SHAPE", [x], [shape], Options("ShapeOptions", {"outType": 2}))
    bounds = [
        b.tensor(name, (1,), "int32", None, np.array([value], np.int32))
        for name, value in (("begin", 0), ("end", 1), ("step", 1))
    ]
    first = b.tensor("first", (), "int32")
    cut = Options("StridedSliceOptions", {"shrinkAxisMask": 1})
    b.operator("STRIDED_SLICE", [shape, *bounds], [first], cut)
    count = b.tensor("count", (), "int32", None, np.array(columns, np.int32))
    both_sizes = b.tensor("sizes", (2,), "int32")
    b.operator(
        "PACK", [first, count], [both_sizes], Options("PackOptions", {"valuesCount": 2, "axis": 0})
    )
    y = b.tensor("y", (1, 6), "float32")
    b.operator("RESHAPE", [x, both_sizes], [y], Options("ReshapeOptions", {}))
    return finish(b, [x], [y])


def test_a_shape_that_is_computed_for_the_batch_alone_is_no_node() -> None:
    proto = proto_of(computed_shape((-1, 2, 3, 1)))
    assert [n.op_type for n in proto.graph.node] == ["Reshape"]
    assert dims(proto.graph.output[0]) == ["batch", 6]


def test_open_dimensions_beside_the_batch_need_a_shape() -> None:
    data = computed_shape((-1, -1, -1, 1), columns=20)
    with pytest.raises(QCompileError, match="not known") as caught:
        read_model(data)
    assert caught.value.code is Code.SHAPE_NOT_STATIC and "--shape x=" in (caught.value.hint or "")
    with pytest.raises(QCompileError) as caught:
        read_model(data, shapes={"x": (1, 4, 5, 2)})
    assert caught.value.code is Code.SHAPE_CONFLICT
    read = read_model(data, shapes={"x": (1, 4, 5, 1)})
    assert read.model.graph.outputs[0].shape == (1, 20)


def test_shapes_that_the_file_declares_wrongly_are_those_that_follow() -> None:
    def wrong(model: Any) -> None:
        model.subgraphs[0].tensors[m.CONV].shape = np.array([1, 9, 9, 4], np.int32)

    assert both(sound()).largest <= 1
    assert proto_of(changed(sound(), wrong)).graph.node == proto_of(sound()).graph.node


def test_another_signature_is_another_graph() -> None:
    def second(model: Any) -> None:
        import copy

        graph = copy.copy(model.subgraphs[0])
        graph.outputs = np.array([m.FLAT], np.int32)
        model.subgraphs.append(graph)
        told = copy.copy(model.signatureDefs[0])
        told.signatureKey, told.subgraphIndex, told.outputs = b"flatten", 1, []
        model.signatureDefs.append(told)

    data = changed(sound(), second)
    assert read_model(data).model.graph.outputs[0].name == "softmax"
    assert read_model(data, "flatten").model.graph.outputs[0].name == "flat"
    with pytest.raises(QCompileError, match="serving_default") as caught:
        read_model(data, "other")
    assert caught.value.code is Code.BAD_OPTION
