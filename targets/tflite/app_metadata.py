"""TFLite Metadata: what an app's libraries (TensorFlow Lite's Task Library, MediaPipe) read.

A flatbuffer of the published schema ``metadata_schema.fbs`` (identifier M001) in the model's
metadata ``TFLITE_METADATA``, and the files that it names in a zip behind the model, stored and not
packed, so that an app can map them. Runtimes ignore what follows a model.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import flatbuffers
import numpy as np

from qcompile.core.app_info import AppInfo, AppInput

METADATA_KEY: Final = "TFLITE_METADATA"
IDENTIFIER: Final = b"M001"
_PARSER: Final = "1.0.0"
"""The first version of the schema, which has all that is written here."""

_TENSOR_AXIS_LABELS: Final = 2
_IMAGE_PROPERTIES: Final = 2
_FEATURE_PROPERTIES: Final = 1
_NORMALIZATION_OPTIONS: Final = 1
_COLORS: Final = {"rgb": 1, "gray": 2}
"""``ColorSpaceType``; it has no BGR, which is said in words."""
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class _Table:
    """A table of the schema: fields by their number; what is left out has the schema's default."""

    size: int
    fields: Mapping[int, Any]


def metadata(
    info: AppInfo, inputs: Sequence[str], outputs: Sequence[str], sizes: Mapping[str, int]
) -> bytes:
    """The flatbuffer ``ModelMetadata``.

    Args:
        info: what is known.
        inputs: names of all inputs, in the order of the model: each has an entry.
        outputs: names of all outputs.
        sizes: input -> dimensions of it, of those that have any.
    """
    made = [_input(name, info.inputs.get(name), sizes.get(name, 0)) for name in inputs]
    files = file_names(info)
    read = [_output(name, files.get(name)) for name in outputs]
    graph = _Table(10, {2: made, 3: read})
    model = _Table(8, {3: [graph], 7: _PARSER})
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(_write(builder, model), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def file_names(info: AppInfo) -> dict[str, str]:
    """Output -> the file of its class names."""
    only = len(info.class_names) == 1
    return {
        output: "labels.txt" if only else f"labels_{number}.txt"
        for number, output in enumerate(info.class_names)
    }


def with_files(model: bytes, info: AppInfo) -> bytes:
    """The model with the files that its metadata name in a zip behind it; equal for equal info."""
    files = file_names(info)
    if not files:
        return model
    whole = io.BytesIO(model)
    with zipfile.ZipFile(whole, "a", zipfile.ZIP_STORED) as archive:
        for output, name in files.items():
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system = 3  # whatever system this runs on
            text = "".join(f"{label}\n" for label in info.class_names[output])
            archive.writestr(entry, text.encode())
    return whole.getvalue()


def _input(name: str, made: AppInput | None, rank: int) -> _Table:
    if made is None:
        return _Table(7, {0: name})
    normalization = _Table(
        2, {0: np.array(made.mean, np.float32), 1: np.array(made.std, np.float32)}
    )
    unit = _Table(2, {0: ("uint8", _NORMALIZATION_OPTIONS), 1: normalization})
    about = AppInfo({name: made}).sentences()[0].partition(": ")[2]
    is_picture = bool(made.color) and rank == 4
    kind = _IMAGE_PROPERTIES if is_picture else _FEATURE_PROPERTIES
    properties = (
        _Table(2, {0: ("int8", _COLORS.get(made.color, 0))}) if is_picture else _Table(0, {})
    )
    content = _Table(3, {0: ("uint8", kind), 1: properties})
    return _Table(7, {0: name, 1: about, 3: content, 4: [unit]})


def _output(name: str, labels: str | None) -> _Table:
    if labels is None:
        return _Table(7, {0: name})
    content = _Table(3, {0: ("uint8", _FEATURE_PROPERTIES), 1: _Table(0, {})})
    file = _Table(5, {0: labels, 2: ("int8", _TENSOR_AXIS_LABELS)})
    return _Table(7, {0: name, 3: content, 6: [file]})


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Write a value and all that is in it, the inner first; its place in the buffer."""
    if isinstance(value, str):
        return int(builder.CreateString(value))
    if isinstance(value, np.ndarray):
        return int(builder.CreateNumpyVector(value))
    if isinstance(value, list):
        items = [_write(builder, item) for item in value]
        builder.StartVector(4, len(items), 4)
        for item in reversed(items):
            builder.PrependUOffsetTRelative(item)
        return int(builder.EndVector())
    scalars = {slot: v for slot, v in value.fields.items() if isinstance(v, tuple)}
    places = {s: _write(builder, v) for s, v in value.fields.items() if s not in scalars}
    builder.StartObject(value.size)
    for slot, place in places.items():
        builder.PrependUOffsetTRelativeSlot(slot, place, 0)
    for slot, (kind, number) in scalars.items():
        prepend = {"int8": builder.PrependInt8Slot, "uint8": builder.PrependUint8Slot}[kind]
        prepend(slot, number, 0)
    return int(builder.EndObject())
