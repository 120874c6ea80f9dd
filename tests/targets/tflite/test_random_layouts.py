"""Random float graphs that mix orders of axes: what LiteRT computes is what ONNX Runtime does."""

import os
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import pytest

from tests.targets.tflite.lowering import check_float, parse

GRAPHS = int(os.environ.get("QCOMPILE_RANDOM_GRAPHS", "200"))
T = TypeVar("T")


@dataclass
class Drawn:
    """ONNX text as it grows; values with their shapes."""

    rng: np.random.Generator
    lines: list[str] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def whole(self, low: int, high: int) -> int:
        """A number from ``low`` to ``high``."""
        return int(self.rng.integers(low, high + 1))

    def one_of(self, *choices: T) -> T:
        return choices[self.whole(0, len(choices) - 1)]

    def value(self, call: str, shape: tuple[int, ...]) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {call}")
        self.shapes[name] = tuple(shape)
        return name

    def constant(self, array: np.ndarray) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = array
        return name

    def floats(self, *shape: int) -> str:
        seed = np.random.default_rng(len(self.constants))
        return self.constant(seed.standard_normal(shape).astype(np.float32))

    def integers(self, *numbers: int) -> str:
        return self.constant(np.asarray(numbers, np.int64))


def transpose(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    perm = [int(axis) for axis in d.rng.permutation(len(shape))]
    return d.value(f"Transpose<perm={perm}>({x})", tuple(shape[axis] for axis in perm))


def conv(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    if len(shape) not in (3, 4):
        return transpose(d, x)
    k = 3 if min(shape[2:]) >= 3 else 1
    w, b = d.floats(5, shape[1], *[k] * (len(shape) - 2)), d.floats(5)
    size = tuple(n - k + 1 for n in shape[2:])
    return d.value(f"Conv({x}, {w}, {b})", (shape[0], 5, *size))


def pool(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    if len(shape) != 4 or min(shape[2:]) < 2:
        return transpose(d, x)
    op = d.one_of("MaxPool", "AveragePool")
    size = tuple(n - 1 for n in shape[2:])
    return d.value(f"{op}<kernel_shape=[2,2]>({x})", (*shape[:2], *size))


def add_constant(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    kept = [n if d.one_of(True, False) else 1 for n in shape]
    c = d.floats(*kept[d.whole(0, len(shape)) :])
    return d.value(f"Add({x}, {c})", shape)


def add_other(d: Drawn, x: str) -> str:
    """The sum of two values that one broadcasts to the other."""
    others = [n for n, s in d.shapes.items() if _fits(s, d.shapes[x])]
    other = d.one_of(*others)
    return d.value(f"Mul({other}, {x})", d.shapes[x])


def _fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    if len(small) > len(large):
        return False
    return all(s in (1, n) for s, n in zip(small[::-1], large[::-1], strict=False))


def reduce(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    if len(shape) < 3:
        return add_constant(d, x)
    axis, keep = d.whole(0, len(shape) - 1), d.whole(0, 1)
    left = tuple(1 if i == axis else n for i, n in enumerate(shape))
    if not keep:
        left = shape[:axis] + shape[axis + 1 :]
    op = d.one_of("ReduceMean", "ReduceMax", "ReduceSum")
    return d.value(f"{op}<keepdims={keep}>({x}, {d.integers(axis)})", left)


def reshape(d: Drawn, x: str) -> str:
    """Merge two neighbouring axes."""
    shape = d.shapes[x]
    if len(shape) < 3:
        return add_constant(d, x)
    axis = d.whole(0, len(shape) - 2)
    merged = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    return d.value(f"Reshape({x}, {d.integers(*merged)})", merged)


def matmul(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    if len(shape) < 2:
        return add_constant(d, x)
    if len(shape) == 2 and d.one_of(True, False):
        return d.value(f"Gemm({x}, {d.floats(shape[1], 4)}, {d.floats(4)})", (shape[0], 4))
    y = d.value(f"MatMul({x}, {d.floats(shape[-1], 4)})", (*shape[:-1], 4))
    return d.value(f"Add({y}, {d.floats(4)})", d.shapes[y])


def flatten(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    size = int(np.prod(shape[1:]))
    y = d.value(f"Flatten({x})", (shape[0], size))
    return matmul(d, y) if d.one_of(True, False) else y


def square(d: Drawn, x: str) -> str:
    """A product of a value with itself, transposed."""
    shape = d.shapes[x]
    if len(shape) < 2:
        return add_constant(d, x)
    last = len(shape) - 1
    perm = [*range(last - 1), last, last - 1]
    turned = d.value(f"Transpose<perm={perm}>({x})", tuple(shape[axis] for axis in perm))
    return d.value(f"MatMul({x}, {turned})", (*shape[:-1], shape[-2]))


def relu(d: Drawn, x: str) -> str:
    return d.value(f"Relu({x})", d.shapes[x])


STEPS = (
    transpose, conv, pool, add_constant, add_other, reduce, reshape, matmul, flatten, square, relu,
)  # fmt: skip


@pytest.mark.parametrize("block", range(10))
def test_any_mixture(block: int) -> None:
    for seed in range(block * GRAPHS // 10, (block + 1) * GRAPHS // 10):
        try:
            one_mixture(seed)
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise


def one_mixture(seed: int) -> None:
    d = Drawn(np.random.default_rng(seed))
    shape = tuple(d.one_of(1, 2, 3, 4, 6, 7) for _ in range(d.one_of(2, 3, 4, 4)))
    d.shapes["x"] = shape
    last = "x"
    for _ in range(d.whole(2, 8)):
        last = d.one_of(*STEPS)(d, last)
    # A second output from within: a value that is read and given away.
    outputs = list(dict.fromkeys((last, d.one_of(*list(d.shapes)[1:]))))
    ends = ", ".join(f"float[n] {name}" for name in outputs)
    body = "\n".join(d.lines)
    model = parse(f"g (float[{','.join(map(str, shape))}] x) => ({ends}) {{ {body} }}", d.constants)
    check_float(model, atol=1e-4, io_layout=d.one_of("nhwc", "nchw"))
