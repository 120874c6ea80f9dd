"""Turns a traced TensorFlow function into an ONNX file, with tf2onnx and the user's names.

Of the two ways there are, TFLiteConverter and tf2onnx, this one keeps more: recurrent layers with
a dynamic batch, pooling in three dimensions. What tf2onnx lacks is added here: Erfc, in which
TensorFlow writes GELU, and the fake quantizers of quantization-aware training.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from qcompile.compiler.importers.steady_names import name_by_readers
from qcompile.core.errors import Code, QCompileError

OPSET: Final = 18
"""The newest that tf2onnx writes."""
BATCH: Final = "batch"
MUST_COMPILE: Final = "_XlaMustCompile"


@dataclass(frozen=True)
class Traced:
    """A model as a function of its inputs, one after another."""

    inputs: Mapping[str, tf.TensorSpec]
    """By the user's names."""
    outputs: tuple[str, ...]
    call: Callable[..., Sequence[tf.Tensor]]
    """Takes the inputs and gives the outputs, in order."""


def write_onnx(traced: Traced, path: Path) -> None:
    """Write the model of a function.

    Args:
        traced: all of its inputs and outputs are tensors.
        path: of the ONNX file. Inputs and outputs have the user's names; dimensions that are not
            known have one too, ``batch`` where it is the first.

    Raises:
        QCompileError: IMPORT_FAILED for inputs and outputs that are not tensors of numbers.
    """
    for name, spec in traced.inputs.items():
        if not isinstance(spec, tf.TensorSpec) or spec.dtype in (
            tf.string,
            tf.resource,
            tf.variant,
        ):
            raise QCompileError(
                Code.IMPORT_FAILED, f"the input {name!r} is no tensor of numbers: {spec}"
            )
    frozen = _frozen(traced)
    inputs = [tensor.name for tensor in frozen.inputs]
    outputs = [tensor.name for tensor in frozen.outputs]
    graph = frozen.graph.as_graph_def(add_shapes=True)
    _allow_inlining(graph)
    model, _ = tf2onnx.convert.from_graph_def(
        graph,
        name=path.stem,
        input_names=inputs,
        output_names=outputs,
        opset=OPSET,
        custom_op_handlers=dict(HANDLERS),
    )
    _rename(model, dict(zip(inputs, traced.inputs, strict=True)))
    _rename(model, dict(zip(outputs, traced.outputs, strict=True)))
    _name_dimensions(model.graph)
    name_by_readers(model)
    onnx.save(model, path)


def _frozen(traced: Traced) -> Any:
    """The function with its variables as constants and the functions in it inlined."""
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name=f"input_{number}")
        for number, spec in enumerate(traced.inputs.values())
    ]

    def run(*tensors: tf.Tensor) -> list[tf.Tensor]:
        # an input that is an output, or two outputs in one, get nodes of their own
        return [tf.identity(tensor) for tensor in traced.call(*tensors)]

    function = tf.function(run, autograph=False).get_concrete_function(*specs)
    return convert_variables_to_constants_v2(
        function, lower_control_flow=False, aggressive_inlining=True
    )


def _allow_inlining(graph: Any) -> None:
    """Let functions be inlined that ask for XLA, as Keras' grouped convolutions do."""
    functions = graph.library.function
    for holder in (*graph.node, *(n for f in functions for n in f.node_def), *functions):
        if holder.attr.pop(MUST_COMPILE, None) is not None:
            holder.attr.pop("_noinline", None)


def _rename(model: onnx.ModelProto, names: Mapping[str, str]) -> None:
    """Give values of the main graph other names, in subgraphs too, which may read them."""
    taken = {value for node in model.graph.node for value in node.output} - set(names)
    for name in names.values():
        if name in taken:
            raise QCompileError(Code.IMPORT_FAILED, f"the name {name!r} is used twice")
    _rename_graph(model.graph, names)


def _rename_graph(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename_graph(attribute.g, names)


def _name_dimensions(graph: onnx.GraphProto) -> None:
    """Name what is not known of the inputs; shapes of all else are found again from there."""
    for value in graph.input:
        for axis, dimension in enumerate(value.type.tensor_type.shape.dim):
            if dimension.dim_value <= 0:
                dimension.dim_param = BATCH if axis == 0 else f"{value.name}_{axis}"
    for value in graph.output:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_value <= 0:
                dimension.Clear()
    del graph.value_info[:]


# --- operators that tf2onnx lacks ----------------------------------------------------------------


def _erfc(context: Any, node: Any, name: str, args: object) -> None:
    """Erfc(y) = 1 + Erf(-y); where ``y = -x * c`` it is 1 + Erf(x * c), as others write GELU."""
    source = node.inputs[0]
    dtype, shape = context.get_dtype(node.output[0]), context.get_shape(node.output[0])
    kind = {"shapes": [shape], "dtypes": [dtype]}
    if source.type == "Mul" and source.inputs[0].type == "Neg":
        operands = [source.inputs[0].input[0], source.input[1]]
        minus = context.make_node("Mul", operands, **kind)
    else:
        minus = context.make_node("Neg", [node.input[0]], **kind)
    erf = context.make_node("Erf", [minus.output[0]], **kind)
    one = context.make_const(
        f"{name}_one", np.ones((), tf2onnx.utils.map_onnx_to_numpy_type(dtype))
    )
    context.remove_node(node.name)
    context.make_node(
        "Add", [erf.output[0], one.output[0]], name=name, outputs=[node.output[0]], **kind
    )


def nudged(
    low: np.ndarray, high: np.ndarray, bits: int, *, narrow: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of a fake quantizer, as TensorFlow moves its ends to hold zero.

    ``scale = (high - low) / (most - least)``; the zero point is ``least - low / scale`` rounded
    half away from zero and kept in [least, most] (fake_quant_ops_functor.h, ``Nudge``), which has
    least = 1 for a narrow range, else 0, and most = 2^bits - 1.

    Returns:
        float32 scales and int64 zero points, shaped as ``low``.
    """
    least, most = np.float32(1 if narrow else 0), np.float32(2**bits - 1)
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    scale = (high - low) / (most - least)
    zero = np.clip(least - low / scale, least, most)
    return scale, np.floor(zero + np.float32(0.5)).astype(np.int64)


def _fake_quant(context: Any, node: Any, name: str, args: object) -> None:
    """A fake quantizer as QuantizeLinear and DequantizeLinear; with a narrow range in int8."""
    bits, narrow = node.get_attr("num_bits").i, bool(node.get_attr("narrow_range").i)
    if bits != 8:
        raise QCompileError(
            Code.IMPORT_FAILED, f"a fake quantizer has {bits} bits, not 8", node=name
        )
    if len(node.input) == 3:
        if not all(i.is_const() for i in node.inputs[1:]):
            raise QCompileError(
                Code.IMPORT_FAILED, "a fake quantizer has ends that are not constant", node=name
            )
        low, high = (i.get_tensor_value(as_list=False) for i in node.inputs[1:])
    else:
        low, high = (np.asarray(node.get_attr(end).f) for end in ("min", "max"))
    scale, zero = nudged(low, high, bits, narrow=narrow)
    stored = zero.astype(np.uint8) if not narrow else (zero - 128).astype(np.int8)
    shape = context.get_shape(node.output[0])
    constants = [
        context.make_const(f"{name}_{what}", array).output[0]
        for what, array in (("scale", scale), ("zero", stored))
    ]
    attributes = {"axis": len(shape) - 1} if scale.ndim else {}
    kind = onnx.TensorProto.INT8 if narrow else onnx.TensorProto.UINT8
    source, output = node.input[0], node.output[0]
    context.remove_node(node.name)
    quantized = context.make_node(
        "QuantizeLinear", [source, *constants], attr=attributes, shapes=[shape], dtypes=[kind]
    )
    context.make_node(
        "DequantizeLinear",
        [quantized.output[0], *constants],
        attr=attributes,
        name=name,
        outputs=[output],
        shapes=[shape],
        dtypes=[onnx.TensorProto.FLOAT],
    )


HANDLERS: Final[Mapping[str, tuple[Callable[..., None], list[str]]]] = {
    "Erfc": (_erfc, []),
    "FakeQuantWithMinMaxArgs": (_fake_quant, []),
    "FakeQuantWithMinMaxVars": (_fake_quant, []),
    "FakeQuantWithMinMaxVarsPerChannel": (_fake_quant, []),
}
"""Operator of TensorFlow -> what writes it as ONNX."""
