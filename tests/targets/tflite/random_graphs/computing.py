"""How nodes that compute are drawn: layers, functions of numbers, norms, comparisons."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.targets.tflite.random_graphs.sketch import Sketch

Draw = Callable[[Sketch], object]


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


def top_k(s: Sketch) -> None:
    x = s.pick()
    axis = s.whole(1, len(s.shapes[x]) - 1)
    count = s.constant([s.whole(1, s.shapes[x][axis])])
    s.add("TopK", x, count, outputs=2, kinds=("float", "int64"), axis=axis)
