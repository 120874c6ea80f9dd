"""LayerNormalization recognized in its decomposed form."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import attribute_int, constant, make_initializer, only_consumer, rank
from qcompile.passes.prepare.edit import graph_of, has_input, is_op, operand, replace, walk
from qcompile.passes.prepare.match import made_by, product_of, sum_with_number

NAME = "RecognizeLayerNorm"


@dataclass(frozen=True)
class RecognizeLayerNorm(ir.passes.InPlacePass):
    """Rewrite a decomposed layer normalization as LayerNormalization. Keeps the float function.

    With ``d = x - mean(x)`` and ``v = mean(d^2)``, both means over the last axis and kept as one:

    1. ``d / Sqrt(v + eps)``, ``d * Reciprocal(Sqrt(v + eps))`` or ``d * (v + eps)^-0.5``, then
    2. a constant gain per feature, if it follows, and
    3. a constant bias per feature, if it follows.

    A gain that does not follow is 1. Left alone: other axes, forms of which a part is read
    elsewhere, an unknown number of features. RMS normalization has no standard op before
    opset 23; it stays as it is, which runtimes fuse themselves.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run the pass."""
        return walk(model, _visit)


def _visit(node: ir.Node) -> bool:
    if not is_op(node, "Div", "Mul"):
        return False
    for centred, deviation in _candidates(node):
        epsilon = _epsilon(centred, deviation)
        if epsilon is not None:
            return _rewrite(node, centred, epsilon)
    return False


def _candidates(node: ir.Node) -> list[tuple[ir.Value, ir.Value]]:
    """Pairs (d, v + eps) for which the node may be d / sqrt(v + eps)."""
    a, b = operand(node, 0), operand(node, 1)
    pairs = []
    for data, divisor in ((a, b), (b, a)) if is_op(node, "Mul") else ((a, b),):
        squared = _under_root(divisor, inverse=is_op(node, "Mul"))
        if squared is not None:
            pairs.append((data, squared))
    return pairs


def _under_root(value: ir.Value, *, inverse: bool) -> ir.Value | None:
    """The s of Sqrt(s), or of its inverse."""
    if inverse:
        power = made_by(value, "Pow")
        if power is not None:
            exponent = constant(power.inputs[1])
            is_root = exponent is not None and exponent.size == 1 and exponent.item() == -0.5
            return operand(power, 0) if is_root else None
        outer = made_by(value, "Reciprocal", "Div")
        if outer is None:
            return None
        if is_op(outer, "Div"):
            one = constant(outer.inputs[0])
            if one is None or one.size != 1 or one.item() != 1:
                return None
        value = operand(outer, len(outer.inputs) - 1)
    root = made_by(value, "Sqrt")
    return None if root is None else operand(root, 0)


def _epsilon(centred: ir.Value, variance: ir.Value) -> float | None:
    """The epsilon, if ``variance`` is mean(centred^2) + epsilon and centred is x - mean(x)."""
    found = sum_with_number(variance)
    if found is None:
        return None
    mean_of_square, epsilon = found
    squares = _mean_argument(mean_of_square)
    if squares is None or len(squares.uses()) != 1:
        return None
    if product_of(squares).factors != (centred, centred) or product_of(squares).constant != 1:
        return None
    return epsilon if _centred_input(centred) is not None else None


def _centred_input(centred: ir.Value) -> ir.Value | None:
    """The x of ``x - mean(x)``."""
    node = centred.producer()
    if node is None or not is_op(node, "Sub"):
        return None
    x = operand(node, 0)
    return x if _mean_argument(operand(node, 1)) is x else None


def _mean_argument(value: ir.Value) -> ir.Value | None:
    """The x of a mean over the last axis that keeps it as one."""
    node = made_by(value, "ReduceMean")
    if node is None or not attribute_int(node, "keepdims", 1):
        return None
    axes = constant(node.inputs[1]) if has_input(node, 1) else None
    dims = rank(node.inputs[0])
    if axes is None or dims is None or [int(a) % dims for a in axes.reshape(-1)] != [dims - 1]:
        return None
    return operand(node, 0)


def _rewrite(node: ir.Node, centred: ir.Value, epsilon: float) -> bool:
    x = _centred_input(centred)
    assert x is not None
    assert x.shape is not None
    features = x.shape[-1]
    uses = {use.node for use in centred.uses()}
    if not isinstance(features, int) or centred.is_graph_output() or len(uses) > 2:
        return False
    last = node
    parameters: list[ir.Value] = []
    for op_type, what in (("Mul", "gain"), ("Add", "bias")):
        step = only_consumer(last.outputs[0])
        value = _per_feature(step, op_type, what, last.outputs[0], features)
        if step is None or value is None:
            break
        parameters.append(value)
        last = step
    if not parameters:
        ones = np.ones(features, np.float32 if x.dtype is None else x.dtype.numpy())
        parameters.append(make_initializer(graph_of(node), f"{node.outputs[0].name}.gain", ones))
    attributes = {"axis": -1, "epsilon": epsilon}
    inputs = [x, *parameters]
    replace(last, "LayerNormalization", inputs, NAME, attributes=attributes)
    return True


def _per_feature(
    step: ir.Node | None, op_type: str, what: str, data: ir.Value, features: int
) -> ir.Value | None:
    """The constant of ``data op constant`` as a vector over the last axis."""
    if step is None or not is_op(step, op_type):
        return None
    other = operand(step, 1 if step.inputs[0] is data else 0)
    array, dims = constant(other), rank(data)
    if array is None or dims is None or array.ndim > dims or array.size not in (1, features):
        return None
    if array.size != 1 and array.shape[-1] != features:
        return None
    if array.shape == (features,):
        return other
    vector = np.broadcast_to(array.reshape(-1), (features,))
    return make_initializer(graph_of(step), f"{other.name}.{what}", vector)
