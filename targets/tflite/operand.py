"""A tensor of the growing model as the holder of a value of the graph."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qcompile.core.numerics.affine import dequantize
from qcompile.targets.tflite.builder import Quantization
from qcompile.targets.tflite.layout import Perm, apply

UNWRITTEN = -2
"""Index of a constant that no operator has taken yet: only then does it become a tensor."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor that holds a value of the graph."""

    index: int
    shape: tuple[int, ...]
    """Logical, in the order of ONNX."""
    perm: Perm
    """How the tensor stores it (``layout``)."""
    dtype: str
    quantization: Quantization | None = None
    data: np.ndarray | None = None
    """A constant's elements, in logical order: integers where it is quantized."""
    name: str = ""
    source: "Operand | None" = None
    """Of a value that is not laid out yet: the operand whose elements, in *logical* order, it has
    in another shape. ``Context.merged`` makes such a one, every ordinary reader lays it out."""

    @property
    def stored_shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return apply(self.perm, self.shape)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def is_quantized(self) -> bool:
        """Whether it holds integers that stand for real numbers."""
        return self.quantization is not None

    @property
    def real(self) -> np.ndarray:
        """A constant's real values, float32, in logical order."""
        assert self.data is not None
        if self.quantization is None:
            return self.data.astype(np.float32)
        q = self.quantization
        axis = q.axis if q.scale.size > 1 else None
        scale = q.scale if axis is not None else q.scale[0]
        zero = q.zero_point if axis is not None else q.zero_point[0]
        return dequantize(self.data, scale, zero, axis)


def with_shape(operand: Operand, shape: Sequence[int], perm: Perm) -> Operand:
    """The same tensor seen as a value of another logical shape, of equal stored shape."""
    return replace(operand, shape=tuple(shape), perm=perm)
