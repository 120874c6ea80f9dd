"""A dilated convolution written as blocks of pixels moved to samples and back is read as one.

``BATCH_TO_SPACE(conv(SPACE_TO_BATCH(x, b, pads)), b, crops)`` is a convolution of dilation ``b``
over ``x`` padded by ``pads - crops``: converters write it so where the batch is open.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from qcompile.targets.tflite.reader.ops.windows import SAME, VALID
from qcompile.targets.tflite.reading import Graph, Operator, Tensor

_CONVOLUTIONS: Final = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
_ONES: Final = ("strideH", "strideW", "dilationHFactor", "dilationWFactor")


def merge_dilations(graph: Graph) -> Graph:
    """Put one convolution for each such three operators.

    Left alone: what other operators or the ends read in between, strides, other parameters on the
    two sides of a move, and padding that is neither SAME nor none.
    """
    makers = {index: op for op in graph.operators for index in op.outputs}
    readers = Counter(i for op in graph.operators for i in {*op.inputs})
    readers.update(graph.outputs)
    gone: set[int] = set()
    merged: dict[int, Operator] = {}
    for back in graph.operators:
        conv = makers.get(back.inputs[0]) if _starts(back, "BATCH_TO_SPACE_ND") else None
        first = makers.get(conv.inputs[0]) if conv is not None and conv.inputs else None
        if conv is None or first is None or not _starts(first, "SPACE_TO_BATCH_ND"):
            continue
        if readers[first.outputs[0]] > 1 or readers[conv.outputs[0]] > 1:
            continue
        one = _merged(graph, first, conv, back)
        if one is not None:
            gone |= {first.index, conv.index}
            merged[back.index] = one  # where the last stood all that it reads is there
    kept = (merged.get(op.index, op) for op in graph.operators if op.index not in gone)
    return replace(graph, operators=tuple(kept)) if gone else graph


def _starts(op: Operator, name: str) -> bool:
    """Whether an operator is one of ``name``, and has an operand."""
    return op.name == name and bool(op.inputs)


def _merged(graph: Graph, first: Operator, conv: Operator, back: Operator) -> Operator | None:
    blocks, pads = (_ints(graph, first, i) for i in (1, 2))
    again, crops = (_ints(graph, back, i) for i in (1, 2))
    is_conv = conv.name in _CONVOLUTIONS
    if not is_conv or blocks != again or blocks is None or pads is None or crops is None:
        return None
    options = conv.options
    is_plain = all(options.get(name) == 1 for name in _ONES) and options.get("padding") == VALID
    ends = [(first.inputs[0], first.outputs[0]), (conv.outputs[0], back.outputs[0])]
    if not is_plain or len(conv.inputs) < 2 or not all(_alike(graph, *pair) for pair in ends):
        return None
    weight = graph.tensor(conv.inputs[1])
    kernel = () if weight is None else weight.shape[1:3]
    if not len(blocks) == len(kernel) == len(pads) / 2 == len(crops) / 2 == 2:
        return None
    padding = _padding(kernel, blocks, [p - c for p, c in zip(pads, crops, strict=True)])
    if padding is None or min(blocks) < 1:
        return None
    told = {"dilationHFactor": blocks[0], "dilationWFactor": blocks[1], "padding": padding}
    return replace(
        conv,
        index=back.index,
        inputs=(first.inputs[0], *conv.inputs[1:]),
        outputs=back.outputs,
        options={**options, **told},
    )


def _padding(kernel: Sequence[int], blocks: Sequence[int], widths: Sequence[int]) -> int | None:
    """SAME or VALID, whichever pads by ``widths``."""
    same: list[int] = []
    for k, block in zip(kernel, blocks, strict=True):
        total = (k - 1) * block
        same += [total // 2, total - total // 2]
    if not any(widths):
        return VALID
    return SAME if list(widths) == same else None


def _alike(graph: Graph, a: int, b: int) -> bool:
    """Whether two tensors have one type and the same parameters."""
    first, second = graph.tensors[a], graph.tensors[b]
    p, q = first.quantization, second.quantization
    same = p.same_as(q) if p is not None else q is None
    return first.dtype == second.dtype and same


def _ints(graph: Graph, op: Operator, index: int) -> tuple[int, ...] | None:
    """A constant list of integers; None for what is computed."""
    tensor: Tensor | None = graph.tensor(op.inputs[index]) if index < len(op.inputs) else None
    if tensor is None or not tensor.is_constant or tensor.dtype not in ("int32", "int64"):
        return None
    return tuple(int(v) for v in tensor.array.reshape(-1))
