"""What a kernel gets: the operator's options, its tensors' types and parameters, and the arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from qcompile.core.numerics.affine import limits
from qcompile.targets.tflite.reference.multiplier import half_away

Rule = Literal["reference", "xnnpack", "micro"]
"""Whose arithmetic: LiteRT's reference kernels, XNNPACK where it takes the operator, or the
reference kernels of TFLite Micro, which differ from LiteRT's in FULLY_CONNECTED."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor of the file."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    """TFLite's name in lower case."""
    scales: np.ndarray | None = None
    """float32 (n,); None without quantization."""
    zero_points: np.ndarray | None = None
    """int64 (n,)."""
    axis: int = 0
    data: np.ndarray | None = None
    """A constant's elements; 4 and 2-bit integers one a byte."""

    @property
    def is_quantized(self) -> bool:
        """Whether its integers stand for real numbers."""
        return self.scales is not None

    @property
    def per_channel(self) -> bool:
        """Whether it has several scales."""
        return self.scales is not None and self.scales.size > 1

    @property
    def scale(self) -> np.float32:
        """The scale of a per-tensor quantization."""
        assert self.scales is not None, f"{self.name} has no scale"
        return np.float32(self.scales[0])

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantization, 0 without one."""
        return 0 if self.zero_points is None else int(self.zero_points[0])

    @property
    def is_integer(self) -> bool:
        """Whether its elements are integers."""
        return "int" in self.dtype


@dataclass(frozen=True, eq=False)
class Call:
    """One operator about to be computed."""

    op: str
    options: Any
    """The schema's options object, or None."""
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    arrays: tuple[np.ndarray | None, ...]
    """Elements of the inputs."""
    rule: Rule

    @property
    def x(self) -> Tensor:
        """The first input's tensor."""
        return self.tensor(0)

    @property
    def y(self) -> Tensor:
        """The first output's tensor."""
        return self.outputs[0]

    @property
    def is_float(self) -> bool:
        """Whether the first input holds real numbers."""
        return self.x.dtype in ("float32", "float16")

    @property
    def xnnpack(self) -> bool:
        """Whether an integer operator of 8 bits follows XNNPACK's rule; it takes no other."""
        return self.rule == "xnnpack" and self.y.dtype in ("int8", "uint8")

    def tensor(self, index: int) -> Tensor:
        """The tensor of an input that must be there."""
        found = self.inputs[index]
        assert found is not None, f"{self.op} lacks input {index}"
        return found

    def array(self, index: int = 0) -> np.ndarray:
        """The elements of an input that must be there."""
        found = self.arrays[index]
        assert found is not None, f"{self.op} lacks input {index}"
        return found

    def has(self, index: int) -> bool:
        """Whether an optional input is there."""
        return index < len(self.arrays) and self.arrays[index] is not None

    def centered(self, index: int = 0) -> np.ndarray:
        """Elements minus zero point, int64; zero points along the tensor's axis."""
        tensor = self.tensor(index)
        x = self.array(index).astype(np.int64)
        if not tensor.per_channel or tensor.zero_points is None:
            return x - tensor.zero_point
        shape = [1] * x.ndim
        shape[tensor.axis] = -1
        return np.asarray(x - tensor.zero_points.reshape(shape))

    def option(self, name: str, default: Any = None) -> Any:
        """A field of the options."""
        value = getattr(self.options, name, None)
        return default if value is None else value

    def integers(self, index: int) -> list[int]:
        """An input that is a list of integers: axes, sizes, a shape."""
        return [int(v) for v in self.array(index).reshape(-1)]


Kernel = Sequence[np.ndarray]
"""What a kernel gives: an array an output."""

_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = range(4)
_RELU_0_TO_1 = 7
"""No fused activation has this number; the operator of its own clamps as one that had."""
_CLAMPS = {
    _NONE: (-np.inf, np.inf),
    _RELU: (0.0, np.inf),
    _RELU_N1_TO_1: (-1.0, 1.0),
    _RELU6: (0.0, 6.0),
    _RELU_0_TO_1: (0.0, 1.0),
}


def clamp_range(y: Tensor, activation: int, *, xnnpack: bool = False) -> tuple[int, int]:
    """Lowest and highest integer of an output with a fused activation.

    The clamp's ends become integers by float32 division and C's round
    (CalculateActivationRangeQuantized); in XNNPACK halves go to even, the zero point added before.
    """
    low, high = limits(y.dtype)
    real_low, real_high = _CLAMPS[activation]
    if np.isfinite(real_low):
        low = max(low, _integer(y, real_low, xnnpack))
    if np.isfinite(real_high):
        high = min(high, _integer(y, real_high, xnnpack))
    return low, high


def _integer(y: Tensor, real: float, xnnpack: bool) -> int:
    if xnnpack:
        return int(np.rint(np.float32(real) / y.scale + np.float32(y.zero_point)))
    return y.zero_point + int(half_away(np.asarray(np.float32(real) / y.scale)))


def finish(call: Call, scaled: np.ndarray, activation: int | None = None) -> np.ndarray:
    """Add the output's zero point, clamp (with the fused activation) and give it its type."""
    fused = int(call.option("fusedActivationFunction", 0)) if activation is None else activation
    low, high = clamp_range(call.y, fused, xnnpack=call.xnnpack)
    return np.asarray(np.clip(scaled + call.y.zero_point, low, high).astype(call.y.dtype))


def finish_float(call: Call, real: np.ndarray) -> np.ndarray:
    """Clamp real numbers by the fused activation."""
    low, high = _CLAMPS[int(call.option("fusedActivationFunction", 0))]
    return np.asarray(np.clip(real, np.float32(low), np.float32(high)).astype(call.y.dtype))
