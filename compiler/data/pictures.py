"""Samples that are picture files, decoded by Pillow when they are asked for."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from qcompile.compiler.data.dataset import Label, Sample
from qcompile.compiler.data.feeder import Feeder
from qcompile.compiler.data.layout import PictureInput, picture_input
from qcompile.compiler.data.listing import Listing
from qcompile.compiler.data.preprocess import CHANNELS, Preprocess
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from PIL.Image import Image

    from qcompile.core.signature import TensorSpec


class PictureDataset:
    """One sample a picture.

    Args:
        listing: the files, in order.
        feeder: preprocessing, constants and the model's ends.

    Raises:
        QCompileError: DATA_NAMES when the model has several inputs that only data can feed,
            DATA_SHAPE or BAD_CONFIG when the input cannot take these pictures.
    """

    def __init__(self, listing: Listing, feeder: Feeder) -> None:
        self.name = listing.name
        self.has_labels = all(file.label is not None for file in listing.files)
        self._files, self._feeder = listing.files, feeder
        self._spec = _picture_spec(feeder)
        self._input = picture_input(self._spec, feeder.preprocess.layout)
        self._color = _color(feeder.preprocess, self._input, self._spec)
        batch = feeder.batching
        # A picture is one element of a batch; a model without a batch dimension takes it as it is.
        self.is_batched = batch.axes[self._spec.name] is None

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = self._files[index]
        where = f"{self.name}/{file.name}"
        raw = self._read(file.path, where)
        self._check(raw, where)
        label: Label = file.label
        return Sample(self._feeder.feed({self._spec.name: raw}, where, pixels=True), label, where)

    def _read(self, path: Path, where: str) -> np.ndarray:
        """The picture as bytes in the model's layout, batch dimension added."""
        pixels = load_pixels(path, self._feeder.preprocess, self._color, where)
        if self._input.order == "nchw":
            return pixels.transpose(2, 0, 1)[None]
        return pixels[None]

    def _check(self, raw: np.ndarray, where: str) -> None:
        _, *sizes = raw.shape
        height, width = sizes[1:] if self._input.order == "nchw" else sizes[:2]
        wanted = self._input.height, self._input.width
        if all(w in (None, got) for w, got in zip(wanted, (height, width), strict=True)):
            return
        h, w = ("?" if size is None else size for size in wanted)
        raise QCompileError(
            Code.DATA_SHAPE,
            f"{where} is {height} x {width} (height x width) after preprocessing, "
            f"but the input {self._spec.name!r} takes {h} x {w}",
            hint=f"set resize = [{h}, {w}], or resize and crop, in [preprocess] of qcompile.toml",
        )


def load_pixels(path: Path, preprocess: Preprocess, color: str, where: str) -> np.ndarray:
    """Decode, convert, resize and crop one picture.

    Returns:
        uint8, height x width x channels.

    Raises:
        QCompileError: DATA_UNREADABLE, or DATA_SHAPE when it is smaller than the crop.
    """
    # Imported here because array data never need Pillow.
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as opened:
            _check_depth(opened, where)
            # What is cut away need not be converted; without resizing the order does not matter.
            picture = _crop(opened, preprocess, where) if preprocess.resize is None else opened
            picture = picture.convert("L" if color == "gray" else "RGB")
            if preprocess.resize is not None:
                picture = _crop(_resize(picture, preprocess), preprocess, where)
            pixels = np.asarray(picture)
    except UnidentifiedImageError as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{where} is not a picture") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{where} cannot be decoded: {error}") from error
    if color == "gray":
        return pixels[:, :, None]
    return pixels[:, :, ::-1] if color == "bgr" else pixels


def resized(height: int, width: int, resize: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width after resizing; the longer side of a kept aspect ratio is rounded down."""
    if isinstance(resize, tuple):
        return resize
    short, long = min(height, width), max(height, width)
    other = max(resize * long // short, 1)
    return (resize, other) if height <= width else (other, resize)


def _resize(picture: "Image", preprocess: Preprocess) -> "Image":
    from PIL.Image import Resampling

    assert preprocess.resize is not None
    height, width = resized(picture.height, picture.width, preprocess.resize)
    if (height, width) == (picture.height, picture.width):
        return picture
    return picture.resize((width, height), Resampling[preprocess.filter.upper()])


def _crop(picture: "Image", preprocess: Preprocess, where: str) -> "Image":
    if preprocess.crop is None:
        return picture
    crop = preprocess.crop
    height, width = crop if isinstance(crop, tuple) else (crop, crop)
    if picture.height < height or picture.width < width:
        raise QCompileError(
            Code.DATA_SHAPE,
            f"{where} is {picture.height} x {picture.width} (height x width), "
            f"smaller than the crop of {height} x {width}",
            hint="set resize in [preprocess] of qcompile.toml",
        )
    left, top = (picture.width - width) // 2, (picture.height - height) // 2
    if (height, width) == (picture.height, picture.width):
        return picture
    return picture.crop((left, top, left + width, top + height))


def _check_depth(picture: "Image", where: str) -> None:
    if picture.mode.startswith(("I", "F")):
        raise QCompileError(
            Code.DATA_UNREADABLE,
            f"{where} has more than 8 bits a channel (Pillow mode {picture.mode})",
            hint="give such pictures as arrays (.npy, .npz)",
        )


def _picture_spec(feeder: Feeder) -> "TensorSpec":
    wanted: Sequence[TensorSpec] = feeder.wanted()
    if len(wanted) == 1:
        return wanted[0]
    names = ", ".join(spec.name for spec in wanted)
    raise QCompileError(
        Code.DATA_NAMES,
        f"pictures feed one input, but the model has {len(wanted)}: {names}",
        hint="give the others a value in [data.constants], or use .npz files or module:function",
    )


def _color(preprocess: Preprocess, into: PictureInput, spec: "TensorSpec") -> str:
    if preprocess.color == "auto":
        color = "gray" if into.channels == 1 else "rgb"
    else:
        color = preprocess.color
    if into.channels not in (None, CHANNELS[color]):
        raise QCompileError(
            Code.DATA_SHAPE,
            f"pictures are {color} with {CHANNELS[color]} channels, "
            f"but the input {spec.name!r} has {into.channels}",
            hint='set color = "rgb", "bgr" or "gray" in [preprocess], or layout if it was misread',
        )
    return color
