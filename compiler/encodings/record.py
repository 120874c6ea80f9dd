"""One tensor's scale and zero point as a file of another tool gives them, whatever its format."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from qcompile.core.numerics.affine import LIMITS, SMALLEST_SCALE, zero_offset
from qcompile.core.plan import QuantParams

T = TypeVar("T")
Record = Mapping[str, Any]

FAULTS = (KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What reading a record raises; whoever reads the file adds which one it is."""


@dataclass(frozen=True, eq=False)
class Encoding:
    """How one tensor is quantized."""

    name: str
    """Of the tensor, in the user's model."""
    dtype: str
    """Quantized type, as ``uint8``."""
    params: QuantParams
    """Vectors when it has scales of its own for each channel."""
    axis: int | None = None
    """Axis of the channels; None for one scale, and where the format does not say."""
    symmetric: bool = False
    is_parameter: bool = False
    """Whether it is a constant of the model."""

    def retyped(self, dtype: str) -> QuantParams:
        """The same grid in another integer type of the same width: the zero point moves.

        ``q_unsigned = q_signed + 2**(bits-1)``, so the scale stays to the last bit.
        """
        shift = zero_offset(dtype) - zero_offset(self.dtype)
        return QuantParams(self.params.scale, np.asarray(self.params.zero_point + shift))


@dataclass(frozen=True)
class Encodings:
    """What a file says of tensors."""

    by_name: Mapping[str, Encoding]
    left: Mapping[str, str] = field(default_factory=dict)
    """Tensors it names but gives no integer grid that can be taken -> why, in a few words."""


def integer_type(bits: int, *, signed: bool) -> str | None:
    """The quantized type of that width, if there is one."""
    name = f"{'int' if signed else 'uint'}{bits}"
    return name if name in LIMITS else None


def make(
    name: str, dtype: str, scales: Any, zeros: Any, *, per_channel: bool, **rest: Any
) -> Encoding:
    """An encoding, its numbers checked.

    Args:
        name: of the tensor.
        dtype: quantized type.
        scales: a number or a list of them.
        zeros: zero points in ``dtype``, as many; or one for all.
        per_channel: whether there may be several.
        rest: further fields.

    Raises:
        ValueError: saying what is wrong with the numbers.
    """
    wide = np.asarray(scales, np.float64).reshape(-1)
    with np.errstate(over="ignore", under="ignore"):
        scale = wide.astype(np.float32)
    if not scale.size or not np.all(np.isfinite(scale) & (scale >= SMALLEST_SCALE)):
        raise ValueError(f"a scale must be finite and at least {SMALLEST_SCALE:.1e}")
    zero = np.asarray(zeros, np.float64).reshape(-1)
    low, high = LIMITS[dtype]
    if not zero.size or np.any(zero != np.rint(zero)) or zero.min() < low or zero.max() > high:
        raise ValueError(f"a zero point of {dtype} is a whole number from {low} to {high}")
    if zero.size not in {1, scale.size}:
        raise ValueError(f"{zero.size} zero points for {scale.size} scales")
    if scale.size > 1 and not per_channel:
        raise ValueError(f"{scale.size} scales for a tensor that is to have one")
    shape = (scale.size,) if per_channel else ()
    params = QuantParams(
        scale.reshape(shape), np.broadcast_to(zero.astype(np.int64), scale.shape).reshape(shape)
    )
    return Encoding(name, dtype, params, **rest)


def numbers(array: np.ndarray) -> list[float]:
    """Float32 numbers as JSON numbers that are exactly those, whoever reads them in float64."""
    return [float(x) for x in array.reshape(-1)]


def as_text(document: object) -> bytes:
    """A document as JSON; equal ones give equal bytes."""
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()


def no_twins(pairs: Sequence[tuple[str, T]]) -> dict[str, T]:
    """A table of pairs; for ``object_pairs_hook``, since JSON would let the last of two win.

    Raises:
        ValueError: naming a key that is given twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise ValueError(f"{twice!r} is given twice")
    return found


def split(found: Iterator[tuple[str, Encoding | str]]) -> Encodings:
    """Encodings, and the reasons that stand in the place of some."""
    table = no_twins(list(found))
    return Encodings(
        {name: one for name, one in table.items() if isinstance(one, Encoding)},
        {name: one for name, one in table.items() if isinstance(one, str)},
    )
