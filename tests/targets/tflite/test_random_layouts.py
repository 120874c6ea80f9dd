"""Random float graphs that mix orders of axes: what LiteRT computes is what ONNX Runtime does."""

import os
from dataclasses import dataclass, field

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.targets.tflite.lowering import check_float, parse

EXAMPLES = int(os.environ.get("QCOMPILE_RANDOM_GRAPHS", "60"))


@dataclass
class Drawn:
    """ONNX text as it grows; values with their shapes."""

    data: st.DataObject
    lines: list[str] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

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
    perm = d.data.draw(st.permutations(range(len(shape))))
    return d.value(f"Transpose<perm={list(perm)}>({x})", tuple(shape[axis] for axis in perm))


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
    op = d.data.draw(st.sampled_from(["MaxPool", "AveragePool"]))
    size = tuple(n - 1 for n in shape[2:])
    return d.value(f"{op}<kernel_shape=[2,2]>({x})", (*shape[:2], *size))


def add_constant(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    kept = [n if d.data.draw(st.booleans()) else 1 for n in shape]
    c = d.floats(*kept[d.data.draw(st.integers(0, len(shape))) :])
    return d.value(f"Add({x}, {c})", shape)


def add_other(d: Drawn, x: str) -> str:
    """The sum of two values that one broadcasts to the other."""
    others = [n for n, s in d.shapes.items() if _fits(s, d.shapes[x])]
    other = d.data.draw(st.sampled_from(others))
    return d.value(f"Mul({other}, {x})", d.shapes[x])


def _fits(small: tuple[int, ...], large: tuple[int, ...]) -> bool:
    if len(small) > len(large):
        return False
    return all(s in (1, n) for s, n in zip(small[::-1], large[::-1], strict=False))


def reduce(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    if len(shape) < 3:
        return add_constant(d, x)
    axis, keep = d.data.draw(st.integers(0, len(shape) - 1)), d.data.draw(st.integers(0, 1))
    left = tuple(1 if i == axis else n for i, n in enumerate(shape))
    if not keep:
        left = shape[:axis] + shape[axis + 1 :]
    op = d.data.draw(st.sampled_from(["ReduceMean", "ReduceMax", "ReduceSum"]))
    return d.value(f"{op}<keepdims={keep}>({x}, {d.integers(axis)})", left)


def reshape(d: Drawn, x: str) -> str:
    """Merge two neighbouring axes."""
    shape = d.shapes[x]
    if len(shape) < 3:
        return add_constant(d, x)
    axis = d.data.draw(st.integers(0, len(shape) - 2))
    merged = (*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    return d.value(f"Reshape({x}, {d.integers(*merged)})", merged)


def matmul(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    if len(shape) < 2:
        return add_constant(d, x)
    if len(shape) == 2 and d.data.draw(st.booleans()):
        return d.value(f"Gemm({x}, {d.floats(shape[1], 4)}, {d.floats(4)})", (shape[0], 4))
    y = d.value(f"MatMul({x}, {d.floats(shape[-1], 4)})", (*shape[:-1], 4))
    return d.value(f"Add({y}, {d.floats(4)})", d.shapes[y])


def flatten(d: Drawn, x: str) -> str:
    shape = d.shapes[x]
    size = int(np.prod(shape[1:]))
    y = d.value(f"Flatten({x})", (shape[0], size))
    return matmul(d, y) if d.data.draw(st.booleans()) else y


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


@given(st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
def test_any_mixture(data: st.DataObject) -> None:
    d = Drawn(data)
    rank = data.draw(st.integers(2, 4))
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=rank, max_size=rank)))
    d.shapes["x"] = shape
    last = "x"
    for _ in range(data.draw(st.integers(1, 7))):
        last = data.draw(st.sampled_from(STEPS))(d, last)
    # A second output from within: a value that is read and given away.
    other = data.draw(st.sampled_from([n for n in d.shapes if n != "x"]))
    outputs = list(dict.fromkeys((last, other)))
    ends = ", ".join(f"float[n] {name}" for name in outputs)
    body = "\n".join(d.lines)
    model = parse(f"g (float[{','.join(map(str, shape))}] x) => ({ends}) {{ {body} }}", d.constants)
    layout = data.draw(st.sampled_from(["nhwc", "nchw"]))
    check_float(model, atol=1e-4, io_layout=layout)
