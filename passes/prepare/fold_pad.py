"""Explicit Pad nodes merged into the convolution or pooling that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import (
    attribute_int,
    attribute_ints,
    attribute_str,
    constant,
    inherit,
    rank,
    scalar,
)
from qcompile.passes.prepare.edit import has_input, is_op, prune, walk

NAME = "FoldPad"

NOT_NEGATIVE = ("Relu", "Sigmoid", "Softmax", "HardSigmoid", "Abs", "Exp", "Softplus")


@dataclass(frozen=True)
class FoldPad(ir.passes.InPlacePass):
    """Merge a constant, non-negative Pad of spatial axes into its readers. Keeps the floats.

    1. Conv: a Pad with zeros is added to ``pads``.
    2. AveragePool: a Pad with zeros is added to ``pads`` and ``count_include_pad`` becomes 1, if it
       is 1 or the pool has no pads of its own (those would not have counted).
    3. MaxPool, which pads with minus infinity: a Pad with the lowest value, or with zeros where the
       data are known not to be negative.

    Each reader is judged alone; the Pad goes when none is left. Left alone: other modes and values,
    negative pads, pads of batch or channels, computed pads, ``auto_pad`` SAME, pools that round
    their size up, and pools whose pads would reach the kernel's size (runtimes refuse them).
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(pad: ir.Node) -> bool:
    if not is_op(pad, "Pad"):
        return False
    added = _spatial_pads(pad)
    if added is None:
        return False
    data = pad.inputs[0]
    modified = False
    for use in pad.outputs[0].uses():
        reader = use.node
        if reader.graph is pad.graph and use.idx == 0 and _merge(pad, added, reader):
            reader.replace_input_with(0, data)
            inherit(reader, NAME, pad, reader)
            modified = True
    if modified:
        prune(pad.outputs)
    return modified


def _spatial_pads(pad: ir.Node) -> list[int] | None:
    """Begins, then ends, of the spatial axes; None where the node pads anything else."""
    dims = rank(pad.inputs[0])
    pads = constant(pad.inputs[1])
    if (
        dims is None
        or dims < 3
        or pads is None
        or attribute_str(pad, "mode", "constant") != "constant"
    ):
        return None
    axes = np.arange(dims)
    if has_input(pad, 3):
        given = constant(pad.inputs[3])
        if given is None:
            return None
        axes = given.reshape(-1) % dims
    begins, ends = np.zeros(dims, np.int64), np.zeros(dims, np.int64)
    begins[axes], ends[axes] = pads.reshape(2, -1)
    if (begins < 0).any() or (ends < 0).any() or begins[:2].any() or ends[:2].any():
        return None
    return [*map(int, begins[2:]), *map(int, ends[2:])]


def _merge(pad: ir.Node, added: Sequence[int], reader: ir.Node) -> bool:
    """Add the pads to the reader if that computes the same."""
    if not is_op(reader, "Conv", "AveragePool", "MaxPool"):
        return False
    if attribute_str(reader, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return False
    own = attribute_ints(reader, "pads", (0,) * len(added))
    total = [a + b for a, b in zip(own, added, strict=True)]
    value = scalar(pad.inputs[2]) if has_input(pad, 2) else 0.0
    if is_op(reader, "Conv"):
        if value != 0:
            return False
    elif not _pool_takes(reader, pad, value, own, total):
        return False
    reader.attributes.pop("auto_pad", None)
    reader.attributes["pads"] = ir.AttrInt64s("pads", total)
    return True


def _pool_takes(
    pool: ir.Node, pad: ir.Node, value: float | None, own: Sequence[int], total: Sequence[int]
) -> bool:
    kernel = attribute_ints(pool, "kernel_shape")
    if attribute_int(pool, "ceil_mode", 0) or len(pool.outputs) > 1:
        return False
    if any(n >= k for n, k in zip(total, (*kernel, *kernel), strict=True)):
        return False
    if is_op(pool, "MaxPool"):
        return value is not None and (_is_lowest(value) or (value == 0 and _not_negative(pad)))
    if value != 0 or (any(own) and not attribute_int(pool, "count_include_pad", 0)):
        return False
    pool.attributes["count_include_pad"] = ir.AttrInt64("count_include_pad", 1)
    return True


def _is_lowest(value: float) -> bool:
    return value <= float(np.finfo(np.float32).min)


def _not_negative(pad: ir.Node) -> bool:
    """Whether the padded data come straight from an op that makes no negative numbers."""
    data = pad.inputs[0]
    producer = data.producer() if data is not None else None
    if producer is None:
        return False
    if is_op(producer, "Clip") and has_input(producer, 1):
        low = scalar(producer.inputs[1])
        return low is not None and low >= 0
    return is_op(producer, *NOT_NEGATIVE)
