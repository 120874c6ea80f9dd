"""Where a model has the height, width and channels of its pictures, read from the input's shape."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from qcompile.compiler.data.files import shape_text
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from qcompile.compiler.data.preprocess import Layout
    from qcompile.core.signature import Dim, TensorSpec

USUAL_CHANNELS = (1, 3)


@dataclass(frozen=True)
class PictureInput:
    """An input of four dimensions that takes pictures; sizes are None where the model is open."""

    order: Literal["nchw", "nhwc"]
    channels: int | None
    height: int | None
    width: int | None


def picture_input(spec: "TensorSpec", layout: "Layout") -> PictureInput:
    """Read the layout of an input.

    With ``auto`` the channels are where the shape has 1 or 3 (the second dimension or the last).

    Raises:
        QCompileError: DATA_SHAPE when the input cannot take pictures, BAD_CONFIG when auto cannot
            tell.
    """
    if spec.shape is None or len(spec.shape) != 4:
        shape = "of unknown shape" if spec.shape is None else shape_text(spec.shape)
        raise QCompileError(
            Code.DATA_SHAPE,
            f"pictures cannot feed the input {spec.name!r}: it is {shape}, not of 4 dimensions",
            hint="give arrays (.npy, .npz) or module:function",
        )
    _, a, b, c = spec.shape
    order = _order(spec, layout)
    if order == "nchw":
        return PictureInput("nchw", _known(a), _known(b), _known(c))
    return PictureInput("nhwc", _known(c), _known(a), _known(b))


def channel_axis(spec: "TensorSpec", rank: int, layout: "Layout") -> int:
    """Which dimension of an array is the channels: that of pictures, else the last."""
    if spec.shape is None or len(spec.shape) != 4 or rank != 4:
        return rank - 1 if rank else 0
    return 1 if _order(spec, layout) == "nchw" else 3


def _order(spec: "TensorSpec", layout: "Layout") -> Literal["nchw", "nhwc"]:
    if layout != "auto":
        return layout
    assert spec.shape is not None
    first, last = spec.shape[1] in USUAL_CHANNELS, spec.shape[3] in USUAL_CHANNELS
    if first != last:
        return "nchw" if first else "nhwc"
    raise QCompileError(
        Code.BAD_CONFIG,
        f"[preprocess] layout cannot be read from the input {spec.name!r} {shape_text(spec.shape)}",
        hint='set layout = "nchw" or "nhwc"',
    )


def _known(dim: "Dim") -> int | None:
    return dim if isinstance(dim, int) else None
