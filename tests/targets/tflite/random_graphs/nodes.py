"""Which way a node of each ONNX op of the table is drawn: one literal table."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from tests.targets.tflite.random_graphs import computing, moving
from tests.targets.tflite.random_graphs.sketch import Sketch

NODES: Final[Mapping[str, computing.Draw]] = {
    "Conv": computing.conv,
    "ConvTranspose": computing.conv_transpose,
    "Gemm": computing.gemm,
    "MatMul": computing.matmul,
    "Add": computing.binary("Add"),
    "Sub": computing.binary("Sub"),
    "Mul": computing.binary("Mul"),
    "Div": computing.div,
    "Max": computing.binary("Max"),
    "Min": computing.binary("Min"),
    "Relu": computing.unary("Relu"),
    "Clip": computing.clip,
    "AveragePool": computing.pool("AveragePool"),
    "GlobalAveragePool": lambda s: s.add("GlobalAveragePool", s.pick(4)),
    "GlobalMaxPool": lambda s: s.add("GlobalMaxPool", s.pick(4)),
    "MaxPool": computing.pool("MaxPool"),
    "ReduceMax": computing.reduced("ReduceMax"),
    "ReduceMean": computing.reduced("ReduceMean"),
    "ReduceMin": computing.reduced("ReduceMin"),
    "ReduceSum": computing.reduced("ReduceSum"),
    "Abs": computing.unary("Abs"),
    "Ceil": computing.unary("Ceil"),
    "Cos": computing.unary("Cos"),
    "Elu": computing.unary("Elu"),
    "Erf": computing.unary("Erf"),
    "Exp": computing.unary("Exp"),
    "Floor": computing.unary("Floor"),
    "Gelu": lambda s: s.add("Gelu", s.pick(), approximate=s.choose(["none", "tanh"])),
    "HardSigmoid": computing.unary("HardSigmoid"),
    "HardSwish": computing.unary("HardSwish"),
    "LeakyRelu": lambda s: s.add("LeakyRelu", s.pick(), alpha=s.choose([0.01, 0.1, 0.25])),
    "Log": computing.of_positive("Log"),
    "LogSoftmax": computing.over_axis("LogSoftmax"),
    "Mish": computing.unary("Mish"),
    "Neg": computing.unary("Neg"),
    "PRelu": computing.prelu,
    "Pow": computing.power,
    "Reciprocal": computing.of_positive("Reciprocal"),
    "Round": computing.unary("Round"),
    "Selu": computing.unary("Selu"),
    "Sigmoid": computing.unary("Sigmoid"),
    "Sign": computing.unary("Sign"),
    "Sin": computing.unary("Sin"),
    "Softmax": computing.over_axis("Softmax"),
    "Softplus": computing.unary("Softplus"),
    "Softsign": computing.unary("Softsign"),
    "Sqrt": computing.of_positive("Sqrt"),
    "Tanh": computing.unary("Tanh"),
    "BatchNormalization": computing.batch_normalization,
    "GroupNormalization": computing.group_normalization,
    "InstanceNormalization": computing.instance_normalization,
    "LayerNormalization": computing.layer_normalization,
    "LpNormalization": lambda s: s.add("LpNormalization", computing.positive(s), axis=-1, p=2),
    "ReduceL2": computing.reduce_l2,
    "And": computing.logic("And"),
    "ArgMax": computing.argument("ArgMax"),
    "ArgMin": computing.argument("ArgMin"),
    "Cast": lambda s: s.add("Cast", computing.condition(s), to=1),
    "Equal": computing.compared("Equal"),
    "Greater": computing.compared("Greater"),
    "GreaterOrEqual": computing.compared("GreaterOrEqual"),
    "Less": computing.compared("Less"),
    "LessOrEqual": computing.compared("LessOrEqual"),
    "Not": lambda s: s.add("Not", computing.condition(s), kind="bool"),
    "Or": computing.logic("Or"),
    "TopK": computing.top_k,
    "Where": computing.where,
    "Concat": moving.concat,
    "DepthToSpace": moving.depth_to_space,
    "Expand": moving.expand,
    "Flatten": computing.unary("Flatten"),
    "Gather": moving.gather,
    "Identity": computing.unary("Identity"),
    "Pad": moving.pad,
    "Reshape": moving.reshape,
    "Resize": moving.resize,
    "Slice": moving.slice_,
    "SpaceToDepth": moving.space_to_depth,
    "Split": moving.split,
    "Squeeze": moving.squeeze,
    "Tile": moving.tile,
    "Transpose": moving.transpose,
    "Unsqueeze": moving.unsqueeze,
}
"""All of the table of lowerings but the RMS normalizations, which a later opset brought."""


def graph(op: str, size: int, seed: int) -> Sketch:
    """A sketch with ``size`` nodes of any kind and then one of ``op``."""
    sketch = Sketch.begin(np.random.default_rng(seed))
    names = list(NODES)
    for _ in range(size):
        NODES[names[sketch.whole(0, len(names) - 1)]](sketch)
    NODES[op](sketch)
    return sketch
