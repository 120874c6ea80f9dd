"""How a node of each ONNX op of the table is drawn: one function an op, in one literal table."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from qcompile.passes.plan.tables import FEWEST
from tests.targets.tflite.random_graphs.sketch import Shape, Sketch

Draw = Callable[[Sketch], object]
TABLE: Final = (64, FEWEST // 64)
"""Rows and columns of an embedding that is just worth storing in integers."""


def unary(op: str, **attributes: Any) -> Draw:
    return lambda s: s.add(op, s.pick(), **attributes)


def of_positive(op: str) -> Draw:
    """Of a value that is at least a tenth."""
    return lambda s: s.add(op, positive(s))


def positive(s: Sketch) -> str:
    return s.add("Add", s.add("Abs", s.pick()), s.constant(0.1))


def conv(s: Sketch) -> None:
    x = s.pick(4)
    inner = s.shapes[x][1]
    group = s.choose([1, 1, inner, *([2] if inner % 2 == 0 else [])])
    outer = group * s.whole(1, 3)
    height, width = s.whole(1, min(3, s.shapes[x][2])), s.whole(1, min(3, s.shapes[x][3]))
    pads = s.choose([[0] * 4, [height // 2, width // 2, height // 2, width // 2], [0, 1, 1, 0]])
    strides = s.choose([[1, 1], [2, 2], [1, 2]])
    w = s.weight(outer, inner // group, height, width)
    bias = [s.noise(outer)] if s.flip() else []
    s.add("Conv", x, w, *bias, group=group, pads=pads, strides=strides)


def conv_transpose(s: Sketch) -> None:
    x = s.pick(4, lambda shape: int(np.prod(shape)) < 200)
    kernel, stride = s.whole(2, 3), s.whole(1, 2)
    pad = s.choose([0, 0, (kernel - stride) // 2]) if kernel >= stride else 0
    w = s.weight(s.shapes[x][1], s.whole(1, 3), kernel, kernel)
    bias = [s.noise(s.constants[w].shape[1])] if s.flip() else []
    s.add("ConvTranspose", x, w, *bias, strides=[stride] * 2, pads=[pad] * 4)


def gemm(s: Sketch) -> None:
    x = s.pick(2)
    outer = s.whole(1, 6)
    w = s.weight(outer, s.shapes[x][1])
    s.add("Gemm", x, w, *([s.noise(outer)] if s.flip() else []), transB=1)


def matmul(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: len(shape) > 1)
    shape = s.shapes[x]
    if s.flip():
        w = s.constants[s.weight(s.whole(1, 6), shape[-1])].T
        s.add("MatMul", x, s.constant(np.ascontiguousarray(w)))
        return
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    s.add("MatMul", x, s.add("Transpose", x, perm=order))


def binary(op: str, constant_too: bool = True) -> Draw:
    def draw(s: Sketch) -> None:
        x = s.pick()
        shape = s.shapes[x]
        partner = s.choose(["same", "value", "channel", "number"] if constant_too else ["value"])
        if partner == "same":
            y = s.noise(*shape)
        elif partner == "number":
            y = s.constant(float(s.rng.uniform(0.2, 2)))
        elif partner == "channel" and len(shape) > 1:
            y = s.noise(shape[1], *[1] * (len(shape) - 2))
        else:
            y = s.pick(accept=lambda other: other == shape)
            if s.shapes[y] != shape:
                y = x
        s.add(op, *([x, y] if s.flip() else [y, x]))

    return draw


def div(s: Sketch) -> None:
    x = s.pick()
    form = s.whole(0, 2)
    if form == 0:
        s.add("Div", x, s.constant(float(s.rng.uniform(0.5, 3))))
    elif form == 1:
        s.add("Div", s.constant(1.5), positive(s))
    else:
        y = positive(s)
        s.add("Div", y, y)


def power(s: Sketch) -> None:
    if s.flip():
        s.add("Pow", s.pick(), s.constant(s.choose([2.0, 3.0])))
    else:
        s.add("Pow", positive(s), s.constant(s.choose([0.5, 1.5, -1.0])))


def clip(s: Sketch) -> None:
    low, high = s.choose([(0.0, 6.0), (-1.0, 1.0), (-0.5, 0.7), (0.0, 1.0)])
    s.add("Clip", s.pick(), s.constant(low), s.constant(high))


def prelu(s: Sketch) -> None:
    x = s.pick(4)
    slopes = s.constant(s.rng.uniform(0.05, 0.9, (s.shapes[x][1], 1, 1)).astype(np.float32))
    s.add("PRelu", x, slopes)


def pool(op: str) -> Draw:
    def draw(s: Sketch) -> None:
        x = s.pick(4, lambda shape: shape[2] > 1 and shape[3] > 1)
        size = [s.whole(1, min(3, n)) for n in s.shapes[x][2:]]
        pads = s.choose([[0] * 4, [k // 2 for k in size] * 2])
        told = {"count_include_pad": s.whole(0, 1)} if op == "AveragePool" else {}
        s.add(op, x, kernel_shape=size, pads=pads, strides=s.choose([[1, 1], [2, 2]]), **told)

    return draw


def reduced(op: str) -> Draw:
    def draw(s: Sketch) -> None:
        x = s.pick()
        rank = len(s.shapes[x])
        axes = sorted(int(a) for a in s.rng.permutation(np.arange(1, rank))[: s.whole(1, 2)])
        s.add(op, x, s.constant(axes or [0]), keepdims=s.whole(0, 1))

    return draw


def reduce_l2(s: Sketch) -> None:
    s.add("ReduceL2", s.pick(), s.constant([-1]), keepdims=1)


def over_axis(op: str) -> Draw:
    def draw(s: Sketch) -> None:
        x = s.pick()
        s.add(op, x, axis=s.choose([-1, -1, 1, len(s.shapes[x]) - 1]))

    return draw


def channels(s: Sketch, x: str, *sizes: int) -> list[str]:
    count = s.shapes[x][1]
    made = s.rng.uniform(0.5, 1.5, count), s.rng.standard_normal(count)
    return [s.constant(a.astype(np.float32)) for a in made][: len(sizes) or 2]


def batch_normalization(s: Sketch) -> None:
    x = s.pick(4)
    count = s.shapes[x][1]
    variance = s.constant(s.rng.uniform(0.5, 2, count).astype(np.float32))
    s.add("BatchNormalization", x, *channels(s, x), s.noise(count), variance)


def instance_normalization(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[2] * shape[3] > 2)
    s.add("InstanceNormalization", x, *channels(s, x), epsilon=0.01)


def group_normalization(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[2] * shape[3] > 2)
    count = s.shapes[x][1]
    groups = 2 if count % 2 == 0 else 1
    s.add("GroupNormalization", x, *channels(s, x), num_groups=groups, epsilon=0.01)


def layer_normalization(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: shape[-1] > 2)
    size = s.shapes[x][-1]
    scale = s.constant(s.rng.uniform(0.5, 1.5, size).astype(np.float32))
    s.add("LayerNormalization", x, scale, s.noise(size), axis=-1, epsilon=0.01)


def compared(op: str) -> Draw:
    def draw(s: Sketch) -> str:
        x = s.pick()
        y = s.constant(float(s.rng.uniform(-1, 1))) if s.flip() else s.noise(*s.shapes[x])
        return s.add(op, x, y, kind="bool")

    return draw


def condition(s: Sketch) -> str:
    """A truth value of each element of some value."""
    made = s.of_kind("bool")
    if made:
        return str(s.choose(made))
    return s.add("Greater", s.pick(), s.constant(0.1), kind="bool")


def logic(op: str) -> Draw:
    def draw(s: Sketch) -> None:
        first = condition(s)
        same = [b for b in s.of_kind("bool") if s.shapes[b] == s.shapes[first]]
        s.add(op, first, s.choose(same), kind="bool")

    return draw


def where(s: Sketch) -> None:
    shape = s.shapes[truth := condition(s)]
    x = s.pick(accept=lambda other: other == shape)
    if s.shapes[x] != shape:
        x = s.noise(*shape)
    s.add("Where", truth, x, s.noise(*shape) if s.flip() else s.constant(0.3))


def argument(op: str) -> Draw:
    def draw(s: Sketch) -> None:
        x = s.pick()
        axis = s.whole(1, len(s.shapes[x]) - 1)
        s.add(op, x, axis=axis, keepdims=s.whole(0, 1), kind="int64")

    return draw


def concat(s: Sketch) -> None:
    x = s.pick()
    shape = s.shapes[x]
    axis = s.whole(1, len(shape) - 1)
    y = s.pick(accept=lambda other: other == shape)
    others = [y if s.shapes[y] == shape else x]
    if s.flip():
        others.append(s.noise(*(2 if i == axis else n for i, n in enumerate(shape))))
    s.add("Concat", x, *others, axis=axis)


def split(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: shape[-1] > 1)
    size = s.shapes[x][-1]
    if size % 2 == 0 and s.flip():
        s.add("Split", x, outputs=2, axis=-1, num_outputs=2)
    else:
        first = s.whole(1, max(1, size - 1))
        s.add("Split", x, s.constant([first, size - first]), outputs=2, axis=-1)


def slice_(s: Sketch) -> None:
    x = s.pick()
    axis = s.whole(1, len(s.shapes[x]) - 1)
    size = s.shapes[x][axis]
    begin = s.whole(0, size - 1)
    end = s.whole(begin + 1, size)
    ends = [s.constant([n]) for n in (begin, end, axis, s.whole(1, 2))]
    s.add("Slice", x, *ends)


def embedding(s: Sketch) -> None:
    """Rows of a matrix that is worth storing in integers, by indices that are computed."""
    x = s.pick()
    axis = max(range(1, len(s.shapes[x])), key=lambda i: s.shapes[x][i])
    if s.shapes[x][axis] > TABLE[0]:
        x = s.add("Slice", x, *(s.constant([n]) for n in (0, TABLE[0], axis)))
    s.add("Gather", s.noise(*TABLE), s.add("ArgMax", x, axis=axis, keepdims=0, kind="int64"))


def gather(s: Sketch) -> None:
    if s.whole(0, 3) == 0:
        embedding(s)
        return
    x = s.pick()
    axis = s.whole(1, len(s.shapes[x]) - 1)
    indices = s.constant([s.whole(0, s.shapes[x][axis] - 1) for _ in range(s.whole(1, 3))])
    s.add("Gather", x, indices, axis=axis)


def pad(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[2] > 2 and shape[3] > 2)
    mode = "reflect" if min(s.shapes[x][2:]) > 2 and s.flip() else "constant"
    pads = [0, 0, s.whole(0, 2), s.whole(0, 2), 0, 0, s.whole(0, 2), s.whole(0, 2)]
    value = [s.constant(0.5)] if mode == "constant" and s.flip() else []
    s.add("Pad", x, s.constant(pads), *value, mode=mode)


def resize(s: Sketch) -> None:
    x = s.pick(4, lambda shape: int(np.prod(shape)) < 200)
    n, c, h, w = s.shapes[x]
    sizes = s.constant([n, c, s.whole(1, 9), s.whole(1, 9)])
    if s.flip():
        way = s.choose(["half_pixel", "align_corners", "asymmetric"])
        told: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": way}
    else:
        told = {"mode": "nearest", "nearest_mode": "floor"}
        told["coordinate_transformation_mode"] = "asymmetric"
        sizes = s.constant([n, c, h * s.whole(1, 3), w * s.whole(1, 3)])
    s.add("Resize", x, "", "", sizes, **told)


def depth_to_space(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[1] % 4 == 0)
    if s.shapes[x][1] % 4:
        x = s.add("Concat", x, x, x, x, axis=1)
    s.add("DepthToSpace", x, blocksize=2, mode=s.choose(["DCR", "CRD"]))


def space_to_depth(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[2] % 2 == 0 and shape[3] % 2 == 0)
    if s.shapes[x][2] % 2 or s.shapes[x][3] % 2:
        x = s.add("Concat", x, x, axis=2)
        x = s.add("Concat", x, x, axis=3)
    s.add("SpaceToDepth", x, blocksize=2)


def reshape(s: Sketch) -> None:
    shape = s.shapes[x := s.pick()]
    s.add("Reshape", x, s.constant([shape[0], -1]) if s.flip() else s.constant([0, -1, shape[-1]]))


def squeeze(s: Sketch) -> None:
    x = s.pick()
    longer = s.add("Unsqueeze", x, s.constant([1])) if len(s.shapes[x]) < 4 else x
    axes = [i for i, n in enumerate(s.shapes[longer]) if n == 1 and i > 0]
    if axes and len(s.shapes[longer]) > 2:
        s.add("Squeeze", longer, s.constant(axes[:1]))
    else:
        s.add("Squeeze", s.add("ReduceMean", longer, s.constant([1])), s.constant([1]))


def unsqueeze(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: len(shape) < 4)
    if len(s.shapes[x]) < 4:
        s.add("Unsqueeze", x, s.constant([s.whole(1, len(s.shapes[x]))]))
    else:
        s.add("Unsqueeze", s.pick(2), s.constant([1]))


def expand(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: 1 in shape[1:] and int(np.prod(shape)) < 200)
    shape: Shape = s.shapes[x]
    s.add(
        "Expand", x, s.constant([s.whole(1, 3) if n == 1 and i else n for i, n in enumerate(shape)])
    )


def tile(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: int(np.prod(shape)) < 200)
    s.add("Tile", x, s.constant([1, *(s.whole(1, 2) for _ in s.shapes[x][1:])]))


def transpose(s: Sketch) -> None:
    rank = len(s.shapes[x := s.pick()])
    s.add("Transpose", x, perm=[0, *(int(a) for a in s.rng.permutation(np.arange(1, rank)))])


NODES: Final[Mapping[str, Draw]] = {
    "Conv": conv,
    "ConvTranspose": conv_transpose,
    "Gemm": gemm,
    "MatMul": matmul,
    "Add": binary("Add"),
    "Sub": binary("Sub"),
    "Mul": binary("Mul"),
    "Div": div,
    "Max": binary("Max"),
    "Min": binary("Min"),
    "Relu": unary("Relu"),
    "Clip": clip,
    "AveragePool": pool("AveragePool"),
    "GlobalAveragePool": lambda s: s.add("GlobalAveragePool", s.pick(4)),
    "GlobalMaxPool": lambda s: s.add("GlobalMaxPool", s.pick(4)),
    "MaxPool": pool("MaxPool"),
    "ReduceMax": reduced("ReduceMax"),
    "ReduceMean": reduced("ReduceMean"),
    "ReduceMin": reduced("ReduceMin"),
    "ReduceSum": reduced("ReduceSum"),
    "Abs": unary("Abs"),
    "Ceil": unary("Ceil"),
    "Cos": unary("Cos"),
    "Elu": unary("Elu"),
    "Erf": unary("Erf"),
    "Exp": unary("Exp"),
    "Floor": unary("Floor"),
    "Gelu": lambda s: s.add("Gelu", s.pick(), approximate=s.choose(["none", "tanh"])),
    "HardSigmoid": unary("HardSigmoid"),
    "HardSwish": unary("HardSwish"),
    "LeakyRelu": lambda s: s.add("LeakyRelu", s.pick(), alpha=s.choose([0.01, 0.1, 0.25])),
    "Log": of_positive("Log"),
    "LogSoftmax": over_axis("LogSoftmax"),
    "Mish": unary("Mish"),
    "Neg": unary("Neg"),
    "PRelu": prelu,
    "Pow": power,
    "Reciprocal": of_positive("Reciprocal"),
    "Round": unary("Round"),
    "Selu": unary("Selu"),
    "Sigmoid": unary("Sigmoid"),
    "Sign": unary("Sign"),
    "Sin": unary("Sin"),
    "Softmax": over_axis("Softmax"),
    "Softplus": unary("Softplus"),
    "Softsign": unary("Softsign"),
    "Sqrt": of_positive("Sqrt"),
    "Tanh": unary("Tanh"),
    "BatchNormalization": batch_normalization,
    "GroupNormalization": group_normalization,
    "InstanceNormalization": instance_normalization,
    "LayerNormalization": layer_normalization,
    "LpNormalization": lambda s: s.add("LpNormalization", positive(s), axis=-1, p=2),
    "ReduceL2": reduce_l2,
    "And": logic("And"),
    "ArgMax": argument("ArgMax"),
    "ArgMin": argument("ArgMin"),
    "Cast": lambda s: s.add("Cast", condition(s), to=1),
    "Equal": compared("Equal"),
    "Greater": compared("Greater"),
    "GreaterOrEqual": compared("GreaterOrEqual"),
    "Less": compared("Less"),
    "LessOrEqual": compared("LessOrEqual"),
    "Not": lambda s: s.add("Not", condition(s), kind="bool"),
    "Or": logic("Or"),
    "Where": where,
    "Concat": concat,
    "DepthToSpace": depth_to_space,
    "Expand": expand,
    "Flatten": unary("Flatten"),
    "Gather": gather,
    "Identity": unary("Identity"),
    "Pad": pad,
    "Reshape": reshape,
    "Resize": resize,
    "Slice": slice_,
    "SpaceToDepth": space_to_depth,
    "Split": split,
    "Squeeze": squeeze,
    "Tile": tile,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
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
