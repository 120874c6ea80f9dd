"""Additions of a quantized TFLite model round as XNNPACK rounds them, also next to a tie."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.targets.tflite.qdq import ORIGIN_KEY

_DQ: Final = "DequantizeLinear"
_STEPS: Final = 32
"""How many neighbours of a scale among the numbers of float32 are tried, on either side."""
_NEAR: Final = 2.0**-9
"""How near to a tie the sum of two integers is that may change sides: more than a byte's worth of
``_STEPS`` relative steps of 2**-23 (255 * 2 * 32 / 2**23 = 2**-9)."""
_MOST: Final = 512
"""How many such pairs are looked at, those of the smallest integers first."""


@dataclass(frozen=True)
class Sum:
    """The parameters of ``c = a + b`` on bytes: scale and zero point of a, b and c."""

    scales: tuple[np.float32, np.float32, np.float32]
    zeros: tuple[int, int, int]

    def ratios(self) -> tuple[np.float32, np.float32]:
        """Scales of a and b over that of c, divided in float32 as the kernels do."""
        a, b, c = self.scales
        return np.float32(a / c), np.float32(b / c)


@dataclass
class TfliteSums(ir.passes.InPlacePass):
    """Choose the scales in front of an Add so that near-ties fall as in the model's own runtime.

    XNNPACK adds with multipliers of 21 bits, ``m = rint(s_x / s_c * 2**k)``, and rounds half up;
    ONNX Runtime adds in float32, ``rint((z_c - (z_a r_a + z_b r_b)) + b r_b + a r_a)``. Both are
    within 1e-5 of the real sum, so they part only where that lies as near to a tie; but ratios of
    scales can make ties of small integers, and a network makes of one such step in a thousand other
    classes for one picture in seventy. In front of each Add that was an ADD of a TFLite file:

    1. Of the pairs of bytes whose sum is near a tie, XNNPACK's results are worked out.
    2. The scales of a and b are moved by at most ``_STEPS`` numbers of float32, to those with which
       ONNX Runtime's kernel, fused multiply-adds or not, gives most of them; of equals to the
       nearest. Small integers count more: activations are mostly small.
    3. The Add reads its operands through a DequantizeLinear of its own with that scale. What made
       them, and what else reads them, keeps the scale of the file.

    It changes what an operand stands for by less than 2**-17 of it. Left alone: an Add whose
    operands and sum are not quantized to bytes in the graph, and all that no TFLite file had.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Walk the nodes once; a second run finds the scales where it would put them."""
        modified = False
        for node in tuple(model.graph):
            found = _match(node)
            if found is None:
                continue
            for index, scale in enumerate(nearest_like_xnnpack(found)):
                if scale != g.scalar(_maker(node, index).inputs[1]):
                    _read_with(model.graph, node, index, scale)
                    modified = True
        return ir.passes.PassResult(model, modified)


def nearest_like_xnnpack(given: Sum) -> tuple[np.float32, np.float32]:
    """Scales for a and b, at most ``_STEPS`` numbers of float32 away (rule 2)."""
    a, b = _near_ties(given)
    if not a.size:
        return given.scales[:2]
    wanted = xnnpack_sums(given, a, b)
    weight = 1.0 / (1.0 + np.abs(a - given.zeros[0]) + np.abs(b - given.zeros[1]))
    steps = np.arange(-_STEPS, _STEPS + 1)
    first, second = (_moved(scale, steps) for scale in given.scales[:2])
    lost = np.zeros((steps.size, steps.size))
    for fused in (False, True):
        got = float_sums(given, a, b, first[:, None, None], second[None, :, None], fused=fused)
        lost += ((got != wanted) * weight).sum(axis=-1)
    far = np.abs(steps)[:, None] + np.abs(steps)[None, :]
    best = np.lexsort((far.reshape(-1), np.round(lost, 9).reshape(-1)))[0]
    row, column = divmod(int(best), steps.size)
    return first[row], second[column]


def xnnpack_sums(given: Sum, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """What XNNPACK's kernel gives, not clamped (``qs8-vadd``, minmax params).

    ``k`` is such that the larger multiplier has 21 bits; sums are exact, rounded half up.
    """
    ratios = given.ratios()
    k = 20 - int(np.floor(np.log2(max(ratios))))
    first, second = (np.rint(np.float64(r) * 2.0**k).astype(np.int64) for r in ratios)
    total = (a - given.zeros[0]) * first + (b - given.zeros[1]) * second
    found: np.ndarray = ((total + (1 << (k - 1))) >> k) + given.zeros[2]
    return found


def float_sums(
    given: Sum,
    a: np.ndarray,
    b: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    *,
    fused: bool,
) -> np.ndarray:
    """What ONNX Runtime's QLinearAdd gives, not clamped, with other scales for a and b.

    ``fixed = z_c - (z_a r_a + z_b r_b)``, then ``fixed + b r_b + a r_a`` in this order, each step
    in float32 or, ``fused``, each multiply-add rounded once (as on x86-64 with FMA; seen to be the
    same for all pairs of bytes under 60 random triples of scales, onnxruntime 1.32).
    """
    scale = given.scales[2]
    ra, rb = (first / scale).astype(np.float32), (second / scale).astype(np.float32)
    za, zb, zc = (np.float32(z) for z in given.zeros)
    x, y = a.astype(np.float32), b.astype(np.float32)

    def add(factor: np.ndarray, number: np.ndarray | np.float32, to: np.ndarray) -> np.ndarray:
        if not fused:
            return np.asarray(factor * number + to, np.float32)
        wide = [np.asarray(part, np.float64) for part in (factor, number, to)]
        return np.asarray(wide[0] * wide[1] + wide[2], np.float32)  # rounded once

    fixed = (zc - add(ra, za, (rb * zb).astype(np.float32))).astype(np.float32)
    found: np.ndarray = np.rint(add(ra, x, add(rb, y, fixed))).astype(np.int64)
    return found


def _near_ties(given: Sum) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of bytes whose real sum is within ``_NEAR`` of a tie."""
    ra, rb = (np.float64(r) for r in given.ratios())
    a, b = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    real = (a - given.zeros[0]) * ra + (b - given.zeros[1]) * rb
    near = np.abs(real - np.floor(real) - 0.5) < _NEAR
    a, b = a[near], b[near]
    small = np.argsort(np.abs(a - given.zeros[0]) + np.abs(b - given.zeros[1]), kind="stable")
    return a[small[:_MOST]], b[small[:_MOST]]


def _moved(scale: np.float32, steps: np.ndarray) -> np.ndarray:
    """Neighbours of a positive float32, ``steps`` numbers away."""
    bits = np.asarray(scale, np.float32).view(np.int32).astype(np.int64)
    found: np.ndarray = (bits + steps).astype(np.int32).view(np.float32)
    return found


def _match(node: ir.Node) -> Sum | None:
    if node.op_type != "Add" or node.metadata_props.get(ORIGIN_KEY) != "ADD":
        return None
    last = g.only_consumer(node.outputs[0])
    if last is not None and last.op_type in {"Relu", "Clip"}:
        last = g.only_consumer(last.outputs[0])
    if last is None or last.op_type != "QuantizeLinear":
        return None
    before = [v.producer() if v is not None else None for v in node.inputs]
    makers = [_quantizer_before(n) for n in before]
    found = [p for n in (*makers, last) if n is not None and (p := _parameters(n)) is not None]
    return _sum_of(found) if len(found) == len(before) + 1 else None


def _quantizer_before(node: ir.Node | None) -> ir.Node | None:
    """What made the integers that a DequantizeLinear reads: it has the scale of the file."""
    stored = node.inputs[0] if node is not None and node.op_type == _DQ else None
    maker = stored.producer() if stored is not None else None
    return maker if maker is not None and maker.op_type == "QuantizeLinear" else None


def _maker(node: ir.Node, index: int) -> ir.Node:
    value = node.inputs[index]
    maker = value.producer() if value is not None else None
    assert maker is not None
    return maker


def _sum_of(parameters: Sequence[tuple[np.float32, int]]) -> Sum:
    (a, b, c), zeros = zip(*parameters, strict=True)
    return Sum((a, b, c), zeros)


def _parameters(node: ir.Node) -> tuple[np.float32, int] | None:
    """Scale and zero point, the latter as of uint8; None where they are not those of bytes."""
    if len(node.inputs) < 3:
        return None
    scale, zero = g.constant(node.inputs[1]), g.constant(node.inputs[2])
    if scale is None or zero is None or scale.size != 1 or zero.dtype.itemsize != 1:
        return None
    offset = 128 if zero.dtype == np.int8 else 0
    return np.float32(scale.reshape(())), int(zero.reshape(())) + offset


def _read_with(graph: ir.Graph, node: ir.Node, index: int, scale: np.float32) -> None:
    """Let an Add read its operand through a DequantizeLinear of its own."""
    before = _maker(node, index)
    value = before.outputs[0]
    name = f"{value.name}_of_{node.name}"
    if index and node.inputs[0] is node.inputs[1]:
        name += "_again"
    stored = g.make_initializer(graph, f"{name}_scale", np.asarray(scale, np.float32))
    own = ir.node(_DQ, [before.inputs[0], stored, *before.inputs[2:]], name=name)
    g.inherit(own, "TfliteSums", before)
    made = own.outputs[0]
    made.name, made.shape, made.type = g.unique_name(graph, name), value.shape, value.type
    graph.insert_before(node, own)
    node.replace_input_with(index, made)
    if not value.uses() and not value.is_graph_output():
        graph.remove(before, safe=True)
