"""What random models of one operator are drawn from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompile.targets.tflite.builder import Options
from tests.targets.tflite.reference.one_op import OneOp, Spec


@dataclass(frozen=True)
class Draw:
    """A generator with the type of the activations and the kind of scales.

    On power-of-two scales ties are frequent.
    """

    rng: np.random.Generator
    powers: bool = False
    dtype: str = "int8"

    @property
    def wide(self) -> bool:
        return self.dtype == "int16"

    @property
    def real(self) -> bool:
        return self.dtype == "float32"

    def whole(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def scale(self, low: float = -7, high: float = -2, size: Any = None) -> Any:
        if self.powers:
            return np.exp2(self.rng.integers(int(low), int(high) + 1, size)).astype(np.float32)
        return np.exp2(self.rng.uniform(low, high, size)).astype(np.float32)

    def zero(self) -> int:
        if self.wide or self.real:
            return 0
        limits = np.iinfo(self.dtype)
        return self.whole(limits.min, limits.max)

    def shape(self, rank: int = 4, largest: int = 7) -> tuple[int, ...]:
        return (self.whole(1, 2), *(self.whole(1, largest) for _ in range(rank - 1)))

    def array(self, shape: Sequence[int]) -> np.ndarray:
        if self.real:
            return (2 * self.rng.standard_normal(tuple(shape))).astype(np.float32)
        limits = np.iinfo(self.dtype)
        return self.rng.integers(limits.min, limits.max + 1, tuple(shape)).astype(self.dtype)

    def spec(self, shape: Sequence[int] = (1,), scale: Any = None, zero: int | None = None) -> Spec:
        if self.real:
            return Spec(tuple(shape), self.dtype)
        return Spec(
            tuple(shape),
            self.dtype,
            self.scale() if scale is None else scale,
            self.zero() if zero is None else zero,
        )


def ints(values: Any) -> Spec:
    data = np.asarray(values, np.int32)
    return Spec(data.shape, "int32", data=data)


def unary(
    d: Draw, op: str, options: Options | None = None, *, out: Spec | None = None, **scales: Any
) -> OneOp:
    shape = d.shape()
    x = d.spec(shape, **scales)
    made = d.spec() if out is None else out
    return OneOp(op, [x], [made], {"in0": d.array(shape)}, options).shaped()


def same(
    d: Draw, op: str, options: Options | None, *rest: Spec, shape: Any = None, outputs: int = 1
) -> OneOp:
    """An operator that moves elements: its outputs have the parameters of its input."""
    shape = d.shape() if shape is None else shape
    x = d.spec(shape)
    outs = [Spec((1,), x.dtype, x.scale, x.zero)] * outputs
    return OneOp(op, [x, *rest], outs, {"in0": d.array(shape)}, options).shaped()
