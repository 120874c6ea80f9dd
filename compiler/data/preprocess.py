"""How raw pictures and raw integers become what a model expects.

The numbers: ``y = (x * scale - mean) / std``, per channel where mean and std are lists, computed
in float64 and rounded once to the type of the input. So x/127.5 - 1 is ``mean = 127.5``,
``std = 127.5``, and torchvision's usual form is ``scale = 1/255`` with its means and deviations.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from qcompile.core.errors import Code, QCompileError

Filter = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Color = Literal["auto", "rgb", "bgr", "gray"]
Layout = Literal["auto", "nchw", "nhwc"]
Arrays = Literal["auto", "raw", "ready"]

CHANNELS: Final = {"rgb": 3, "bgr": 3, "gray": 1}


@dataclass(frozen=True)
class Preprocess:
    """Options of the ``[preprocess]`` table, applied in the order in which they stand here."""

    resize: int | tuple[int, int] | None = None
    """Shorter side, keeping the aspect ratio, or exactly ``[height, width]``. Pillow's resampling,
    which averages when it shrinks (as torchvision does; TensorFlow's default does not)."""
    filter: Filter = "bilinear"
    crop: int | tuple[int, int] | None = None
    """Side of a square, or ``[height, width]``, cut from the centre."""
    color: Color = "auto"
    """Order of the channels; auto is gray for a model with one channel, else rgb."""
    scale: float = 1.0
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0
    layout: Layout = "auto"
    """Where the model has its channels; auto reads it from the input's shape."""
    dtype: str | None = None
    """Type to round to before the model's own (``float16``); the model's own when None."""
    arrays: Arrays = "auto"
    """Whether arrays get the numbers above: ``raw`` ones do, ``ready`` ones are fed as they are.
    auto takes integers for raw, and asks for a word where floats meet numbers that change them.
    Pictures always get everything; geometry and colour are for them alone."""
    input: str | None = None
    """Which input this is for; when None the only one, or the only one of four dimensions."""

    def __post_init__(self) -> None:
        for key, sizes in (("resize", self.resize), ("crop", self.crop)):
            if any(size < 1 for size in _several(sizes)):
                raise _bad(f"{key} must be positive, got {sizes}")
            if isinstance(sizes, tuple) and len(sizes) != 2:
                raise _bad(f"{key} must be a number or [height, width], got {list(sizes)}")
        numbers = (*_several(self.scale), *_several(self.mean), *_several(self.std))
        if not all(math.isfinite(number) for number in numbers):
            raise _bad("scale, mean and std must be finite")
        if self.scale == 0 or any(std == 0 for std in _several(self.std)):
            raise _bad("scale and std must not be 0")
        lengths = {len(v) for v in (self.mean, self.std) if isinstance(v, tuple)}
        if len(lengths) > 1 or 0 in lengths:
            raise _bad("mean and std must have one number, or one a channel")
        if self.dtype is not None and not _is_number_type(self.dtype):
            raise _bad(f"dtype {self.dtype!r} is not a type of numbers")

    @property
    def is_plain(self) -> bool:
        """Whether the numbers stay as they are."""
        values = (*_several(self.mean), *(s - 1 for s in _several(self.std)), self.scale - 1)
        return not any(values)

    def applies_to(self, array_type: np.dtype[np.generic], where: str) -> bool:
        """Whether an array of this type is raw (see ``arrays``).

        Raises:
            QCompileError: BAD_CONFIG when it cannot be told.
        """
        if self.is_plain or self.arrays == "ready":
            return False
        if self.arrays == "auto" and array_type.kind == "f":
            raise QCompileError(
                Code.BAD_CONFIG,
                f"{where} is {array_type}: it cannot be told whether scale, mean and std of "
                "[preprocess] are still to be applied",
                hint='set arrays = "ready" (fed as they are) or arrays = "raw" in [preprocess]',
            )
        return True

    def numbers(self, x: np.ndarray, axis: int, dtype: str) -> np.ndarray:
        """Apply scale, mean and std.

        Args:
            x: raw values.
            axis: which dimension is the channels, where mean or std are lists.
            dtype: element type of the result; integers are rounded half to even and clipped.

        Raises:
            QCompileError: BAD_CONFIG when the number of channels is not that of mean and std.
        """
        channels = self._channels()
        if channels and x.shape[axis] != channels:
            raise _bad(
                f"mean and std have {channels} numbers but the input {x.shape[axis]} channels"
            )
        if x.dtype == np.uint8:
            return self._look_up(x, axis, dtype)
        shape = [1] * x.ndim
        shape[axis] = channels or 1
        mean, std = (v.reshape(shape if v.size > 1 else ()) for v in self._affine())
        return _round((x.astype(np.float64) * self.scale - mean) / std, dtype)

    def table(self, dtype: str) -> np.ndarray:
        """What each of 256 byte values becomes: 1 x 256, or one row a channel."""
        mean, std = (v.reshape(-1, 1) for v in self._affine())
        return _round((np.arange(256, dtype=np.float64) * self.scale - mean) / std, dtype)

    def _look_up(self, x: np.ndarray, axis: int, dtype: str) -> np.ndarray:
        rows = self.table(dtype)
        if len(rows) == 1:
            return np.asarray(np.take(rows[0], x))
        out = np.empty(x.shape, rows.dtype)
        planes, raw = np.moveaxis(out, axis, 0), np.moveaxis(x, axis, 0)
        for channel, row in enumerate(rows):
            planes[channel] = row[raw[channel]]
        return out

    def _channels(self) -> int:
        return max(len(v) if isinstance(v, tuple) else 0 for v in (self.mean, self.std))

    def _affine(self) -> tuple[np.ndarray, np.ndarray]:
        return np.asarray(self.mean, np.float64), np.asarray(self.std, np.float64)


def _round(values: np.ndarray, dtype: str) -> np.ndarray:
    wanted = np.dtype(dtype)
    if wanted.kind in "iu":
        info = np.iinfo(wanted.name)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(wanted)


def _several(value: float | tuple[float, ...] | None) -> tuple[float, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def _is_number_type(name: str) -> bool:
    try:
        return np.dtype(name).kind in "fiu"
    except TypeError:
        return False


def _bad(message: str) -> QCompileError:
    return QCompileError(Code.BAD_CONFIG, f"[preprocess] {message}")
