"""Asks the float model whether the data are scaled as it expects.

The first layer of a trained network, with its batch normalization (folded or not), gives each
channel a spread of about one: over the pictures, spectra and log-mels of seven networks the median
channel's standard deviation right before the first activation function is 0.2 to 1.0. Feeding
0..255 where 0..1 or -1..1 is meant makes it 27 to 260, the reverse 0.003 to 0.01. So:

1. The first Conv, MatMul or Gemm behind each float input is sought, through what moves or shifts
   values, and the value in front of the activation function behind it is watched. Where there is
   no such chain, nothing is said.
2. A median spread within ``[LOWEST, HIGHEST]`` is fine.
3. Otherwise the same samples are tried scaled to a spread of one. A classifier that tells the
   samples apart better as they are (mutual information between sample and class) is left in
   peace: networks without normalization may have any spread in their first layer.

What this cannot see: shifts, swapped channels, and factors below about ten (0..1 for -1..1).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.data.dataset import Dataset, evenly
from qcompile.core.executor import Executor, Session
from qcompile.core.notes import Note
from qcompile.core.parallel import ordered_map

LOWEST: Final = 0.015
HIGHEST: Final = 12.0

FEWEST: Final = 4
"""With fewer samples nothing is said: a Gemm's channel has one value a sample."""

WEIGHTED: Final = frozenset({"Conv", "MatMul", "Gemm"})
SHIFTING: Final = frozenset({"Add", "Sub", "Mul", "Div", "BatchNormalization", "Identity"})
"""What may stand behind the layer, with constants; it is part of the layer's affine function."""
MOVING: Final = SHIFTING | {
    "Cast", "Flatten", "Pad", "Reshape", "Squeeze", "Transpose", "Unsqueeze",
}  # fmt: skip
"""What may stand in front of the layer."""
ACTIVATIONS: Final = frozenset({
    "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu",
    "Selu", "Sigmoid", "Softplus", "Swish", "Tanh",
})  # fmt: skip


@dataclass(frozen=True)
class FirstLayer:
    """Where the spread behind one input is measured."""

    input: str
    value: str
    node: str
    channel_axis: int


def check_scaling(
    dataset: Dataset, model: ir.Model, executor: Executor, *, samples: int = 16, threads: int = 1
) -> list[Note]:
    """Warn of data that look wrongly scaled for the model.

    Args:
        dataset: the samples as they are fed.
        model: the float model, before or after the prepare passes.
        executor: runs its first layers, and all of it where something looks wrong.
        samples: how many are tried, spread evenly over the set.
        threads: samples in work at a time.

    Returns:
        A warning for each input whose first layer's spread is out of bounds; empty when the data
        look right, or when nothing can be said.

    """
    layers = first_layers(model)
    few = evenly(dataset, samples)
    if not layers or len(few) < FEWEST:
        return []
    # Nothing behind these values is run.
    results = _run(few, executor.load(model, [layer.value for layer in layers]), {}, threads)
    notes = []
    for number, layer in enumerate(layers):
        spread = _spread([row[number] for row in results], layer.channel_axis)
        if spread == 0 or LOWEST <= spread <= HIGHEST:
            continue
        if not _tells_more_as_it_is(few, model, executor, layer, spread):
            notes.append(_warning(few, layer, spread))
    return notes


def _tells_more_as_it_is(
    few: Dataset, model: ir.Model, executor: Executor, layer: FirstLayer, spread: float
) -> bool:
    """Whether a classifier is surer of the samples than scaled to a spread of one (rule 3)."""
    answer = _class_output(model)
    if answer is None:
        return False
    session = executor.load(model, [answer])
    rescaled = _run(few, session, {layer.input: 1 / spread})
    return _information(_run(few, session, {})) > _information(rescaled)


def first_layers(model: ir.Model) -> list[FirstLayer]:
    """The first weighted layer behind each float input that has one (rule 1 above)."""
    graph = model.graph
    found = (_first_layer(v) for v in graph.inputs if v.name not in graph.initializers)
    return [layer for layer in found if layer is not None]


def _first_layer(value: ir.Value) -> FirstLayer | None:
    if value.dtype is None or not value.dtype.is_floating_point():
        return None
    source, layer = value.name, None
    while True:
        consumers = value.consumers()
        if not consumers:
            return None
        types = {node.op_type for node in consumers}
        if layer is not None and types & ACTIVATIONS:
            axis = 1 if layer.op_type == "Conv" else -1
            return FirstLayer(source or "", value.name or "", layer.name or "", axis)
        if len(value.uses()) != 1:
            return None
        node = consumers[0]
        if layer is None and node.op_type in WEIGHTED and node.inputs[0] is value:
            layer = node
        elif not _is_affine(node, value, MOVING if layer is None else SHIFTING):
            return None
        value = node.outputs[0]


def _is_affine(node: ir.Node, value: ir.Value, allowed: frozenset[str]) -> bool:
    """Whether a node only moves, shifts or scales ``value``, by constants."""
    others = (v for v in node.inputs if v is not None and v is not value)
    constant = all(v.is_initializer() or v.const_value is not None or _made(v) for v in others)
    return node.op_type in allowed and constant


def _made(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant"


def _class_output(model: ir.Model) -> str | None:
    """The output of a classifier of more than two classes: float, N x classes."""
    for value in model.graph.outputs:
        known = value.shape is not None and value.dtype is not None and value.name is not None
        if known and value.dtype.is_floating_point() and len(value.shape) == 2:  # type: ignore
            classes = value.shape[1]  # type: ignore[index]
            if isinstance(classes, int) and classes > 2 and len(model.graph.outputs) == 1:
                return value.name
    return None


def _run(
    few: Dataset, session: Session, factors: dict[str, float], threads: int = 1
) -> list[list[np.ndarray]]:
    """Run every sample, some inputs multiplied by a factor."""

    def one(index: int) -> list[np.ndarray]:
        feeds = dict(few[index].feeds)
        for name, factor in factors.items():
            feeds[name] = feeds[name] * feeds[name].dtype.type(factor)
        return session.run(feeds)

    return ordered_map(one, range(len(few)), threads)


def _spread(values: Sequence[np.ndarray], axis: int) -> float:
    """Median over channels of the standard deviation over samples and positions."""
    channels = [np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1) for v in values]
    count = sum(c.shape[1] for c in channels)
    means = [c.sum(1, dtype=np.float64) for c in channels]
    mean = (sum(means[1:], means[0]) / count)[:, None]
    squares = [np.square(c - mean.astype(c.dtype)).sum(1, dtype=np.float64) for c in channels]
    return float(np.median(np.sqrt(sum(squares[1:], squares[0]) / count)))


def _information(results: Sequence[Sequence[np.ndarray]]) -> float:
    """Mutual information between sample and class, in nats; logits go through a softmax."""
    p = np.concatenate([row[-1].reshape(-1, row[-1].shape[-1]) for row in results])
    p = p.astype(np.float64)
    if p.min() < 0 or not np.allclose(p.sum(1), 1, atol=1e-3):
        p = np.exp(p - p.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
    return _entropy(p.mean(0)) - float(np.mean([_entropy(row) for row in p]))


def _entropy(p: np.ndarray) -> float:
    return float(-(p * np.log(np.maximum(p, 1e-300))).sum())


def _warning(few: Dataset, layer: FirstLayer, spread: float) -> Note:
    inputs = [few[i].feeds[layer.input] for i in range(len(few))]
    low, high = min(float(x.min()) for x in inputs), max(float(x.max()) for x in inputs)
    much = "large" if spread > HIGHEST else "small"
    return Note(
        "warning",
        f"the data look too {much} for the model: the input {layer.input!r} is fed "
        f"{low:.4g}..{high:.4g}, and the first layer's outputs spread by {spread:.3g}, where "
        f"trained networks have about 1 (a factor of about {_power(spread)}); "
        "check scale, mean and std in [preprocess]",
        layer.node or None,
    )


def _power(spread: float) -> str:
    """The factor to one digit, as a reader would say it."""
    factor = max(spread, 1 / spread)
    digit = 10 ** math.floor(math.log10(factor))
    return f"{round(factor / digit) * digit}"
