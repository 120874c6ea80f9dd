"""A quantized model becomes the float model under it, and a table of what its quantizers said."""

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import constant, inherit, make_initializer, unique_name
from qcompile.core.numerics.affine import LIMITS, storage_type, zero_offset
from qcompile.core.plan import QuantParams
from qcompile.passes.prepare.edit import (
    bypass,
    graph_of,
    has_input,
    insert,
    is_op,
    operand,
    prune,
)

NAME = "TakeOutQDQ"
_LAYERS = frozenset({"Add", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"})
_CLAMPS = frozenset({"Clip", "Relu"})
_SAME = 2.0**-16
"""How near two scales of a pair must be, relative: over a byte that is 1/256 of a step."""


@dataclass(frozen=True, eq=False)
class Stated:
    """How a quantizer of the model treats a value."""

    dtype: str
    params: QuantParams
    """Of one number."""

    def same_as(self, other: "Stated") -> bool:
        """The same real numbers, to the last bit: U8 and S8 differ by 128 in all integers."""
        return (
            np.array_equal(self.params.scale, other.params.scale)
            and self._middle == other._middle
            and storage_type(self.dtype).itemsize == storage_type(other.dtype).itemsize
        )

    @property
    def _middle(self) -> int:
        """The zero point, counted from the middle of the type."""
        return int(self.params.zero_point) - zero_offset(self.dtype)


@dataclass
class TakeOutQDQ(ir.passes.InPlacePass):
    """Remove pairs of QuantizeLinear and DequantizeLinear, and keep their parameters.

    With ``x' = DequantizeLinear(QuantizeLinear(x))``, both of the same constant zero point of one
    number and the same scale (to ``_SAME``: an artefact may hold a neighbour of it, which then
    counts as the quantizer's):

    1. Readers of x' read x, and ``stated`` says how x is quantized. The first pair on a value
       counts; equal ones are merged.
    2. A further pair on x with other parameters becomes an Identity of x, whose output is stated:
       a requantize stays where it was.
    3. A pair from an input of the graph straight to an output becomes an Identity likewise, since
       both names are part of the model's contract.

    4. Where a quantizer's lowest integer is 0, it did the work of a Relu that a tool has taken out,
       if a layer made x (``_LAYERS``) and no clamp follows: readers of x' then read
       ``Clip(x, 0, highest)``, which takes the name of x and is what is stated.

    It changes the function by what the quantizers rounded away: the plan puts them back. It comes
    after the passes that fold nodes, so that none of those folds over a value that is quantized.
    Left alone: quantizers of several numbers or blocks, with parameters that are computed, and
    those without a partner.
    """

    stated: dict[str, Stated] = field(default_factory=dict)
    """Value name -> how it is quantized, after ``call``."""
    kept: list[str] = field(default_factory=list)
    """Names of DequantizeLinear that were left alone though they have a partner."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        found: dict[ir.Value, Stated] = {}
        modified = False
        for node in tuple(model.graph):
            pair = _partner(node)
            if pair is None or node.graph is None:
                continue
            stated = _stated(pair, node)
            if stated is None:
                self.kept.append(node.name or "")
                continue
            _take_out(pair, node, stated, found)
            modified = True
        self.stated = {value.name or "": stated for value, stated in found.items()}
        return ir.passes.PassResult(model, modified)


def _take_out(
    quantizer: ir.Node, node: ir.Node, stated: Stated, found: dict[ir.Value, Stated]
) -> None:
    value, output = operand(quantizer, 0), node.outputs[0]
    if value not in found and _does_clamp(value, output, stated):
        value = _clamp(quantizer, value, stated)
    before = found.get(value)
    if (before is None or before.same_as(stated)) and bypass(node, value):
        found[value] = stated
        prune([quantizer.outputs[0]])
        return
    real = ir.Value(name=output.name, shape=output.shape, type=output.type)
    identity = ir.node("Identity", [value], outputs=[real], name=node.name)
    graph = graph_of(node)
    graph.insert_before(node, identity)
    output.replace_all_uses_with(real, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    inherit(identity, NAME, node, quantizer)
    prune([quantizer.outputs[0]])
    found.setdefault(value, stated)
    found[real] = stated


def _does_clamp(value: ir.Value, output: ir.Value, stated: Stated) -> bool:
    maker, readers = value.producer(), [use.node for use in output.uses()]
    lowest, _ = LIMITS[stated.dtype]
    if maker is None or maker.op_type not in _LAYERS or value.is_graph_output():
        return False
    if readers and all(reader.op_type in _CLAMPS for reader in readers):
        return False
    return int(stated.params.zero_point) == lowest and len(list(value.uses())) == 1


def _clamp(quantizer: ir.Node, value: ir.Value, stated: Stated) -> ir.Value:
    """What the quantizer leaves of a value, under its name."""
    graph, name, (lowest, highest) = graph_of(quantizer), value.name, LIMITS[stated.dtype]
    value.name = unique_name(graph, f"{name}_unclamped")
    top = np.float32((highest - lowest) * np.float64(stated.params.scale))
    bounds = [
        make_initializer(graph, f"{name}_{end}", np.asarray(bound, np.float32))
        for end, bound in (("lowest", 0.0), ("highest", top))
    ]
    clamped = insert(quantizer, "Clip", [value, *bounds], f"{name}_clamped", NAME, like=value)
    clamped.name = name
    quantizer.replace_input_with(0, clamped)
    return clamped


def _partner(node: ir.Node) -> ir.Node | None:
    """The QuantizeLinear that a DequantizeLinear undoes."""
    if not _is(node, "DequantizeLinear") or node.inputs[0] is None:
        return None
    before = node.inputs[0].producer()
    return before if before is not None and _is(before, "QuantizeLinear") else None


def _is(node: ir.Node, op_type: str) -> bool:
    return is_op(node, op_type) or (node.op_type == op_type and node.domain == "com.microsoft")


def _stated(quantizer: ir.Node, node: ir.Node) -> Stated | None:
    """What both say, if it is one thing."""
    one, other = _parameters(quantizer), _parameters(node)
    dtype = quantizer.outputs[0].dtype
    name = dtype.name.lower() if dtype is not None else ""
    if one is None or other is None or not _are_same(one, other) or name not in LIMITS:
        return None
    return Stated(name, one)


def _are_same(one: QuantParams, other: QuantParams) -> bool:
    near = abs(float(one.scale) - float(other.scale)) <= _SAME * float(one.scale)
    return near and np.array_equal(one.zero_point, other.zero_point)


def _parameters(node: ir.Node) -> QuantParams | None:
    scale = constant(operand(node, 1))
    zero = constant(operand(node, 2)) if has_input(node, 2) else np.zeros((), np.int64)
    if scale is None or zero is None or scale.size != 1 or zero.size != 1:
        return None
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        return None
    one = np.asarray(scale.reshape(()), np.float32)
    return QuantParams(one, np.asarray(zero.reshape(()), np.int64))
