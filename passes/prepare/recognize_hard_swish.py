"""HardSigmoid and HardSwish recognized in their decomposed forms."""

from dataclasses import dataclass

import onnx_ir as ir

from qcompile.core.graph import attribute_float, only_consumer
from qcompile.passes.prepare.edit import is_op, is_single, replace, walk
from qcompile.passes.prepare.match import close, made_by, product_of, sum_with_number
from qcompile.passes.prepare.simplify_clip import limits_of

NAME = "RecognizeHardSwish"


@dataclass(frozen=True)
class RecognizeHardSwish(ir.passes.InPlacePass):
    """Rewrite decomposed HardSigmoid and HardSwish as the standard ops. Keeps the float function.

    1. ``x * HardSigmoid(x, 1/6, 1/2)`` and ``x * Clip(x + 3, 0, 6) / 6``, the factors in any order,
       become HardSwish(x).
    2. ``Clip(x + b, 0, h) / h`` becomes HardSigmoid(x, alpha=1/h, beta=b/h).
    3. ``Clip(a * x + b, 0, 1)`` with a other than 1 becomes HardSigmoid(x, alpha=a, beta=b).

    Left alone: forms of which a part is read elsewhere, other limits, and double,
    for which runtimes have neither op.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_single(node.outputs[0]):
        return False
    if is_op(node, "Clip"):
        return _hard_sigmoid_of_clip(node)
    if not is_op(node, "Mul", "Div"):
        return False
    return _hard_swish(node) or _hard_sigmoid_of_product(node)


def _hard_swish(node: ir.Node) -> bool:
    product = product_of(node.outputs[0])
    if len(product.factors) != 2:
        return False
    for x, gate in (product.factors, product.factors[::-1]):
        if _gate(gate, x, product.constant):
            replace(node, "HardSwish", [x], NAME)
            return True
    return False


def _gate(gate: ir.Value, x: ir.Value, factor: float) -> bool:
    """Whether ``factor * gate`` is clip(x + 3, 0, 6) / 6."""
    node = made_by(gate, "HardSigmoid")
    if node is not None and node.inputs[0] is x:
        sixth = close(attribute_float(node, "alpha", 0.2), 1 / 6)
        return sixth and close(attribute_float(node, "beta", 0.5), 0.5) and close(factor, 1.0)
    if not close(factor, 1 / 6):
        return False
    ramp = _ramp(gate)
    return ramp is not None and ramp.x is x and close(ramp.bias, 3.0) and close(ramp.high, 6.0)


@dataclass(frozen=True)
class Ramp:
    """``clip(x + bias, 0, high)``, read by one node."""

    x: ir.Value
    bias: float
    high: float


def _ramp(value: ir.Value) -> Ramp | None:
    clip = made_by(value, "Clip")
    limits = limits_of(clip)
    if clip is None or limits is None or limits.low != 0:
        return None
    found = sum_with_number(limits.data)
    if found is None:
        return None
    return Ramp(*found, limits.high)


def _hard_sigmoid_of_product(node: ir.Node) -> bool:
    product = product_of(node.outputs[0])
    if len(product.factors) != 1:
        return False
    ramp = _ramp(product.factors[0])
    if ramp is None or not close(product.constant * ramp.high, 1.0):
        return False
    attributes = {"alpha": 1 / ramp.high, "beta": ramp.bias / ramp.high}
    replace(node, "HardSigmoid", [ramp.x], NAME, attributes=attributes)
    return True


def _hard_sigmoid_of_clip(clip: ir.Node) -> bool:
    limits = limits_of(clip)
    if limits is None or (limits.low, limits.high) != (0.0, 1.0):
        return False
    found = sum_with_number(limits.data)
    if found is None or only_consumer(found[0]) is None:
        return False
    inner = product_of(found[0])
    if len(inner.factors) != 1 or close(inner.constant, 1.0):
        return False
    attributes = {"alpha": inner.constant, "beta": found[1]}
    replace(clip, "HardSigmoid", [inner.factors[0]], NAME, attributes=attributes)
    return True
