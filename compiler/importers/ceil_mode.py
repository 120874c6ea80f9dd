"""Pools whose ``ceil_mode`` would put a window wholly behind the picture, which runtimes leave out.

Where the last window begins in the padding at the end or further, ONNX (since opset 22), ONNX
Runtime and PyTorch drop it; inference by the working opset counts it.
"""

from typing import Final

import onnx_ir as ir

from qcompile.compiler.importers.tensors import graphs_of
from qcompile.core.graph import attribute_int, attribute_ints, attribute_str, static_shape

POOLS: Final = ("AveragePool", "LpPool", "MaxPool")


def drop_outer_windows(model: ir.Model) -> bool:
    """Say the same without the windows that are dropped; True if there was such a pool.

    Dropping gives as many windows as rounding down: ``ceil_mode`` becomes 0 where that holds for
    every axis, else the padding behind the axis ends with its last window.
    """
    changed = False
    for graph in graphs_of(model):
        for node in graph:
            if node.domain == "" and node.op_type in POOLS:
                changed |= _drop(node)
    return changed


def _drop(node: ir.Node) -> bool:
    shape = static_shape(node.inputs[0])
    explicit = attribute_str(node, "auto_pad", "NOTSET") == "NOTSET"
    if shape is None or not attribute_int(node, "ceil_mode", 0) or not explicit:
        return False
    size, n = shape[2:], len(shape) - 2
    kernel = attribute_ints(node, "kernel_shape")
    strides = attribute_ints(node, "strides", (1,) * n)
    dilations = attribute_ints(node, "dilations", (1,) * n)
    pads = list(attribute_ints(node, "pads", (0,) * (2 * n)))
    rests, dropped = [0] * n, [False] * n
    for i in range(n):
        room = size[i] + pads[i] + pads[n + i] - (dilations[i] * (kernel[i] - 1) + 1)
        rests[i] = room % strides[i]
        last = -(-room // strides[i]) * strides[i]  # where the last window begins, rounding up
        dropped[i] = bool(rests[i]) and last >= size[i] + pads[i]
    if not any(dropped):
        return False
    if all(d or not rest for d, rest in zip(dropped, rests, strict=True)):
        node.attributes["ceil_mode"] = ir.AttrInt64("ceil_mode", 0)
        return True
    shorter = [p - r * d for p, r, d in zip(pads[n:], rests, dropped, strict=True)]
    if min(shorter) < 0:
        return False  # a stride wider than the window: the runtime will say what it makes of it
    node.attributes["pads"] = ir.AttrInt64s("pads", [*pads[:n], *shorter])
    return True
