"""What changed in an ONNX operator from one opset to the next, as edits of single nodes.

One function a change. The list is that of ``onnx/version_converter/convert.h``, less the entries
that only widen types; there it is C++ on another graph class, which loses metadata, needs the
weights in one message and does not enter every subgraph. Each edit keeps the function of the node;
tests hold them to it by running both opsets.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir as ir

from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import attribute_int, constant, inherit, rank, static_shape

PASS_NAME = "ConvertOpset"

Adapter = Callable[[ir.Node], None]


def _constant_input(node: ir.Node, index: int, array: np.ndarray) -> None:
    """Make input ``index`` a new constant. A node, so that it works in function bodies too."""
    if len(node.inputs) <= index:
        node.resize_inputs(index + 1)
    node.replace_input_with(index, _constant_before(node, array))


def _constant_before(node: ir.Node, array: np.ndarray) -> ir.Value:
    return _before(node, "Constant", [], value=ir.AttrTensor("value", ir.tensor(array))).outputs[0]


def _before(node: ir.Node, op_type: str, inputs: list[ir.Value], **attributes: ir.Attr) -> ir.Node:
    """Insert a node in front of another one and on its account."""
    name = f"{node.name}_{op_type.lower()}"
    new = inherit(ir.Node("", op_type, inputs, attributes.values(), name=name), PASS_NAME, node)
    new.outputs[0].name = name
    node.prepend(new)
    return new


def _take_ints(node: ir.Node, name: str) -> np.ndarray | None:
    attribute = node.attributes.pop(name, None)
    return None if attribute is None else np.asarray(attribute.as_ints(), np.int64)


def _like_input(node: ir.Node, number: float) -> np.ndarray:
    """A scalar of the type of the node's first input (float32 when that is not known)."""
    first = node.inputs[0]
    known = first is not None and first.dtype is not None
    return np.asarray(number, first.dtype.numpy() if known else np.float32)  # type: ignore[union-attr]


def _ints_to_input(name: str, index: int) -> Adapter:
    """An attribute that is a list of integers became an input; an absent one stays absent."""

    def adapt(node: ir.Node) -> None:
        integers = _take_ints(node, name)
        if integers is not None and integers.size:
            _constant_input(node, index, integers)

    return adapt


def _renamed(op_type: str) -> Adapter:
    def adapt(node: ir.Node) -> None:
        node.op_type = op_type

    return adapt


def _default(name: str, value: str) -> Adapter:
    """A default changed: spell the old one out."""

    def adapt(node: ir.Node) -> None:
        node.attributes.setdefault(name, ir.AttrString(name, value))

    return adapt


def _unsupported(why: str) -> Adapter:
    def adapt(node: ir.Node) -> None:
        raise QCompileError(Code.OPSET_UNSUPPORTED, f"{node.op_type}: {why}", node=node.name)

    return adapt


def _batch_normalization_9(node: ir.Node) -> None:
    spatial = attribute_int(node, "spatial", 1)
    node.attributes.pop("spatial", None)
    if spatial == 0:
        _unsupported("spatial = 0 has no equivalent since opset 9")(node)


def _batch_normalization_14(node: ir.Node) -> None:
    """Extra outputs (running and saved statistics) meant training."""
    if any(value.uses() or value.is_graph_output() for value in node.outputs[1:]):
        _unsupported("its training outputs are used; export the model for inference")(node)
    node.resize_outputs(1)


def _upsample_9(node: ir.Node) -> None:
    scales = node.attributes.pop("scales")
    _constant_input(node, 1, np.asarray(scales.as_floats(), np.float32))


def _resize_11(node: ir.Node) -> None:
    """Resize-10 computed x_in = x_out / scale, nearest rounding down (up where it shrinks)."""
    scales = node.inputs[1]
    node.resize_inputs(3)
    node.replace_input_with(2, scales)
    node.replace_input_with(1, _constant_before(node, np.zeros(0, np.float32)))
    node.attributes["coordinate_transformation_mode"] = ir.AttrString(
        "coordinate_transformation_mode", "asymmetric"
    )
    mode = node.attributes.get("mode")
    if mode is None or mode.as_string() == "nearest":
        rounding = "ceil" if _shrinks(node, scales) else "floor"
        node.attributes["nearest_mode"] = ir.AttrString("nearest_mode", rounding)


def _shrinks(node: ir.Node, scales: ir.Value | None) -> bool:
    producer = scales.producer() if scales is not None else None
    if producer is not None and producer.op_type == "Constant" and "value" in producer.attributes:
        factors = producer.attributes["value"].as_tensor().numpy()
    else:
        known = constant(scales)
        factors = np.ones(1) if known is None else known
    if (factors < 1).any() and (factors > 1).any():
        _unsupported("shrinks one dimension and stretches another, by opset 10's rules")(node)
    return bool((factors < 1).any())


def _slice_10(node: ir.Node) -> None:
    for index, name in enumerate(("starts", "ends", "axes"), start=1):
        integers = _take_ints(node, name)
        if integers is not None:
            _constant_input(node, index, integers)


def _top_k_10(node: ir.Node) -> None:
    _constant_input(node, 1, np.asarray([node.attributes.pop("k").as_int()], np.int64))


def _clip_11(node: ir.Node) -> None:
    for index, name in ((1, "min"), (2, "max")):
        limit = node.attributes.pop(name, None)
        if limit is not None:
            _constant_input(node, index, _like_input(node, limit.as_float()))


def _pad_11(node: ir.Node) -> None:
    pads = _take_ints(node, "pads")
    value = node.attributes.pop("value", None)
    if pads is not None:
        _constant_input(node, 1, pads)
    if value is not None and value.as_float() != 0:
        _constant_input(node, 2, _like_input(node, value.as_float()))


def _dropout_12(node: ir.Node) -> None:
    """In inference the ratio has no say; as an input it would only be in the way."""
    node.attributes.pop("ratio", None)


def _softmax_13(node: ir.Node) -> None:
    """Until opset 12 all dimensions from ``axis`` on counted as one."""
    axis = attribute_int(node, "axis", 1)
    dimensions = rank(node.inputs[0])
    last = -1 if dimensions is None else dimensions - 1
    if axis in (-1, last):
        node.attributes["axis"] = ir.AttrInt64("axis", -1)
        return
    source, output = node.inputs[0], node.outputs[0]
    assert source is not None
    flat = _before(node, "Flatten", [source], axis=ir.AttrInt64("axis", axis)).outputs[0]
    known = static_shape(source)
    shape = (
        _before(node, "Shape", [source]).outputs[0]
        if known is None
        else _constant_before(node, np.asarray(known, np.int64))
    )
    reshape = ir.Node("", "Reshape", [None, shape], name=f"{node.name}_reshape")
    node.append(inherit(reshape, PASS_NAME, node))
    result = reshape.outputs[0]
    result.name, result.shape, result.type = output.name, output.shape, output.type
    output.name, output.shape = f"{node.name}_flat", None
    output.replace_all_uses_with(result, replace_graph_outputs=True)
    reshape.replace_input_with(0, output)
    node.replace_input_with(0, flat)
    node.attributes["axis"] = ir.AttrInt64("axis", -1)


def _split_18(node: ir.Node) -> None:
    if len(node.inputs) < 2 or node.inputs[1] is None:
        node.attributes["num_outputs"] = ir.AttrInt64("num_outputs", len(node.outputs))


def _dft_20(node: ir.Node) -> None:
    axis = node.attributes.pop("axis", None)
    _constant_input(node, 2, np.asarray(1 if axis is None else axis.as_int(), np.int64))


def _grid_sample_20(node: ir.Node) -> None:
    mode = node.attributes.get("mode")
    new = {"bilinear": "linear", "bicubic": "cubic"}
    if mode is not None and mode.as_string() in new:
        node.attributes["mode"] = ir.AttrString("mode", new[mode.as_string()])


def _group_normalization_21(node: ir.Node) -> None:
    """Scale and bias were one a group, now one a channel: (G) -> (G, 1) -> (G, C/G) -> (C)."""
    groups = node.attributes["num_groups"].as_int()
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    channels = shape[1] if shape is not None and len(shape) > 1 else None
    if not isinstance(channels, int):
        _unsupported("its number of channels is not known")(node)
        return
    for index in (1, 2):
        value = node.inputs[index]
        assert value is not None
        column = _constant_before(node, np.asarray([groups, 1], np.int64))
        grid = _constant_before(node, np.asarray([groups, channels // groups], np.int64))
        flat = _constant_before(node, np.asarray([-1], np.int64))
        value = _before(node, "Reshape", [value, column]).outputs[0]
        value = _before(node, "Expand", [value, grid]).outputs[0]
        node.replace_input_with(index, _before(node, "Reshape", [value, flat]).outputs[0])


ADAPTERS: Mapping[tuple[str, int], Adapter] = {
    ("BatchNormalization", 9): _batch_normalization_9,
    ("Scan", 9): _unsupported("opset 8 had another meaning of its inputs"),
    ("Upsample", 9): _upsample_9,
    ("Slice", 10): _slice_10,
    ("TopK", 10): _top_k_10,
    ("Upsample", 10): _renamed("Resize"),
    ("Clip", 11): _clip_11,
    ("Pad", 11): _pad_11,
    ("Resize", 11): _resize_11,
    ("Scatter", 11): _renamed("ScatterElements"),
    ("Dropout", 12): _dropout_12,
    ("LogSoftmax", 13): _softmax_13,
    ("Hardmax", 13): _softmax_13,
    ("ReduceSum", 13): _ints_to_input("axes", 1),
    ("Softmax", 13): _softmax_13,
    ("Split", 13): _ints_to_input("split", 1),
    ("Squeeze", 13): _ints_to_input("axes", 1),
    ("Unsqueeze", 13): _ints_to_input("axes", 1),
    ("BatchNormalization", 14): _batch_normalization_14,
    ("RoiAlign", 16): _default("coordinate_transformation_mode", "output_half_pixel"),
    ("ReduceL1", 18): _ints_to_input("axes", 1),
    ("ReduceL2", 18): _ints_to_input("axes", 1),
    ("ReduceLogSum", 18): _ints_to_input("axes", 1),
    ("ReduceLogSumExp", 18): _ints_to_input("axes", 1),
    ("ReduceMax", 18): _ints_to_input("axes", 1),
    ("ReduceMean", 18): _ints_to_input("axes", 1),
    ("ReduceMin", 18): _ints_to_input("axes", 1),
    ("ReduceProd", 18): _ints_to_input("axes", 1),
    ("ReduceSumSquare", 18): _ints_to_input("axes", 1),
    ("Split", 18): _split_18,
    ("DFT", 20): _dft_20,
    ("GridSample", 20): _grid_sample_20,
    ("GroupNormalization", 21): _group_normalization_21,
}
"""(operator, opset that changed it) -> the edit that crosses the change."""
