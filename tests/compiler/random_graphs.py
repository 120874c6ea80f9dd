"""Random float graphs of the operators that networks are made of, valid by construction."""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Shape = tuple[int, ...]


@dataclass
class Graph:
    """A graph as it grows; every value has batch 1 and a known shape."""

    random: Random
    noise: np.random.Generator
    shapes: dict[str, Shape] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    shared: dict[Shape, str] = field(default_factory=dict)

    def constant(self, array: object) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, share: bool = False) -> str:
        """Noise that keeps the size of what it is applied to; perhaps that of another layer."""
        if share and shape in self.shared:
            return self.shared[shape]
        scale = float(np.prod(shape[1:])) ** -0.5
        name = self.constant((self.noise.normal(size=shape) * scale).astype(np.float32))
        return self.shared.setdefault(shape, name)

    def vector(self, size: int) -> str:
        return self.constant(self.noise.normal(size=size).astype(np.float32))

    def add(self, op: str, inputs: list[str], *shapes: Shape, **attributes: object) -> None:
        names = [f"v{len(self.nodes)}_{i}" for i in range(len(shapes))]
        self.nodes.append(helper.make_node(op, inputs, names, f"n{len(self.nodes)}", **attributes))
        self.shapes.update(zip(names, shapes, strict=True))


Maker = Callable[[Graph, str, Shape], object]
"""Adds a node that reads a value of that name and shape, or does nothing where it cannot."""


def conv(g: Graph, x: str, s: Shape) -> None:
    if len(s) != 4 or min(s[2:]) < 3:
        return
    pad, stride = g.random.choice([0, 1]), g.random.choice([1, 1, 2])
    depthwise = g.random.random() < 0.3
    out = s[1] if depthwise else g.random.choice([2, 3, s[1]])
    w = g.weight(out, 1 if depthwise else s[1], 3, 3, share=g.random.random() < 0.3)
    inputs = [x, w, *([g.vector(out)] if g.random.random() < 0.6 else [])]
    sides = [(d + 2 * pad - 3) // stride + 1 for d in s[2:]]
    group = s[1] if depthwise else 1
    attributes = {"pads": [pad] * 4, "strides": [stride] * 2, "group": group}
    g.add("Conv", inputs, (1, out, *sides), **attributes)


def matmul(g: Graph, x: str, s: Shape) -> None:
    out = g.random.choice([2, 5])
    g.add("MatMul", [x, g.weight(s[-1], out, share=True)], (*s[:-1], out))
    if g.random.random() < 0.5:
        y = f"v{len(g.nodes) - 1}_0"
        g.add("Add", [y, g.vector(out)], (*s[:-1], out))


def gemm(g: Graph, x: str, s: Shape) -> None:
    if len(s) != 2:
        return
    out, turned = g.random.choice([2, 5]), g.random.choice([0, 1])
    shape = (out, s[1]) if turned else (s[1], out)
    inputs = [x, g.weight(*shape), *([g.vector(out)] if g.random.random() < 0.6 else [])]
    g.add("Gemm", inputs, (1, out), transB=turned)


def clip(g: Graph, x: str, s: Shape) -> None:
    low, high = g.random.choice([(0.0, 6.0), (0.0, 1.0), (-1.0, 1.0)])
    bounds = [g.constant(np.float32(b)) for b in (low, high)]
    g.add("Clip", [x, *bounds], s)


def binary(g: Graph, x: str, s: Shape) -> None:
    other = g.random.choice([n for n, t in g.shapes.items() if t == s])
    g.add(g.random.choice(["Add", "Mul", "Sub", "Max"]), [x, other], s)


def constant_operand(g: Graph, x: str, s: Shape) -> None:
    operand = g.constant(g.noise.normal(size=g.random.choice([(), s[-1:]])).astype(np.float32))
    inputs = [x, operand]
    g.random.shuffle(inputs)
    g.add(g.random.choice(["Add", "Mul"]), inputs, s)


def concat(g: Graph, x: str, s: Shape) -> None:
    other = g.random.choice([n for n, t in g.shapes.items() if t == s])
    g.add("Concat", [x, other], (s[0], 2 * s[1], *s[2:]), axis=1)


def split(g: Graph, x: str, s: Shape) -> None:
    if s[1] % 2 == 0:
        half = (s[0], s[1] // 2, *s[2:])
        sizes = g.constant(np.array([s[1] // 2] * 2))
        g.add("Split", [x, sizes], half, half, axis=1)


def pool(g: Graph, x: str, s: Shape) -> None:
    if len(s) == 4 and min(s[2:]) >= 2:
        op = g.random.choice(["MaxPool", "AveragePool"])
        g.add(op, [x], (*s[:2], s[2] - 1, s[3] - 1), kernel_shape=[2, 2])


def global_pool(g: Graph, x: str, s: Shape) -> None:
    if len(s) == 4:
        g.add("GlobalAveragePool", [x], (*s[:2], 1, 1))


def flatten(g: Graph, x: str, s: Shape) -> None:
    g.add("Flatten", [x], (1, int(np.prod(s[1:]))))


def transpose(g: Graph, x: str, s: Shape) -> None:
    order = [0, *g.random.sample(range(1, len(s)), len(s) - 1)]
    g.add("Transpose", [x], tuple(s[i] for i in order), perm=order)


def resize(g: Graph, x: str, s: Shape) -> None:
    if len(s) == 4:
        scales = g.constant(np.array([1, 1, 2, 2], np.float32))
        mode = {"mode": g.random.choice(["nearest", "linear"])}
        mode |= {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        g.add("Resize", [x, "", scales], (*s[:2], 2 * s[2], 2 * s[3]), **mode)


def batch_norm(g: Graph, x: str, s: Shape) -> None:
    scale, variance = ((g.noise.random(s[1]) + 0.5).astype(np.float32) for _ in range(2))
    ends = [g.vector(s[1]), g.vector(s[1])]
    g.add("BatchNormalization", [x, g.constant(scale), *ends, g.constant(variance)], s)


def unary(*ops: str) -> Maker:
    return lambda g, x, s: g.add(g.random.choice(ops), [x], s)


MAKERS: tuple[Maker, ...] = (
    conv, conv, conv, matmul, gemm, gemm, clip, binary, binary, constant_operand, concat, split,
    pool, global_pool, flatten, transpose, resize, batch_norm,
    unary("Relu"), unary("Relu"), unary("Sigmoid", "Softmax"),
    unary("Tanh", "HardSwish", "LeakyRelu", "Identity"),
)  # fmt: skip


def random_model(seed: int) -> tuple[onnx.ModelProto, np.ndarray]:
    """A model with input ``x``, and 12 samples for it."""
    random = Random(seed)
    g = Graph(random, np.random.default_rng(seed))
    side, channels = random.choice([6, 8]), random.choice([2, 3, 4])
    g.shapes["x"] = (1, channels, side, side)
    for _ in range(random.randint(4, 14)):
        name, shape = random.choice(list(g.shapes.items())[-4:])
        random.choice(MAKERS)(g, name, shape)
    if not g.nodes:
        g.add("Relu", ["x"], g.shapes["x"])
    read = {name for node in g.nodes for name in node.input}
    ends = [n for n in g.shapes if n not in read and n != "x"]
    ends += [n for n in random.sample(list(g.shapes), 1) if n not in {*ends, "x"}]
    batch: list[int | str] = ["N" if random.random() < 0.5 else 1]
    graph = helper.make_graph(
        g.nodes,
        "random",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [*batch, *g.shapes["x"][1:]])],
        [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * len(g.shapes[n]))
            for n in ends
        ],
        g.constants,
    )
    opsets = [helper.make_opsetid("", 17)]
    samples = g.noise.normal(size=(12, *g.shapes["x"][1:])).astype(np.float32)
    return helper.make_model(graph, opset_imports=opsets, ir_version=8), samples
