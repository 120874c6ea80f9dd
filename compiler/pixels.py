"""Whether an app can feed raw bytes, and what then becomes of the user's scale, mean and std."""

from dataclasses import dataclass, replace
from typing import Final

import onnx_ir as ir

from qcompile.compiler.app_info import preprocessed_input
from qcompile.compiler.config import Config
from qcompile.compiler.data.dataset import Dataset, evenly
from qcompile.compiler.data.layout import channel_axis
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.runner import run_passes
from qcompile.compiler.samples import Samples
from qcompile.core.app_info import AppInfo
from qcompile.core.errors import QCompileError
from qcompile.core.notes import Note
from qcompile.core.pixels import PIXELS_KEY, Pixels, pixels_from_json
from qcompile.passes.prepare.pixel_input import NEAR, PixelInput

BYTES: Final = frozenset({"uint8", "int8"})
"""Types of ends that hold a pixel."""

TRIED: Final = 4
"""Samples that are asked whether they are made of bytes."""


@dataclass(frozen=True)
class RawInput:
    """An input that an app may be able to feed with bytes."""

    step: PixelInput
    is_picture: bool
    """Whether it is made of bytes where no sample says so."""


def raw_input(
    config: Config, imported: Imported, app: AppInfo | None, options: BuildOptions
) -> RawInput | None:
    """The input whose scale, mean and std can be the compiled model's own, or None.

    Asked for are ends of bytes in every artefact, by name, and a ``[preprocess]`` that says how an
    input of float32 is made of raw numbers. Negative deviations are left to the app.
    """
    spec = preprocessed_input(config.preprocess, imported.signature)
    asked = options.raw_bytes and set(options.ends) <= BYTES
    if spec is None or app is None or not asked or spec.dtype != "float32":
        return None
    made = app.inputs[spec.name]
    if min(made.std) <= 0 or spec.shape is None:
        return None
    try:
        axis = channel_axis(spec, len(spec.shape), config.preprocess.layout)
    except QCompileError:
        axis = 0  # no picture: it has no channels, so one number must do
    if axis == 0 and max(len(made.mean), len(made.std)) > 1:
        return None
    return RawInput(PixelInput(spec.name, made.mean, made.std, axis), bool(made.color))


def take_bytes(
    imported: Imported, model: ir.Model, samples: Samples, raw: RawInput | None
) -> tuple[Imported, list[Note]]:
    """Let the canonical graph read bytes, if that is what the samples are made of.

    Args:
        imported: told which nodes no artefact will have.
        model: the canonical float graph, changed in place.
        samples: some are asked.
        raw: what ``raw_input`` found.

    Returns:
        ``imported`` with those nodes float, and what there is to say.
    """
    if raw is None:
        return imported, []
    step = raw.step
    data = samples.calibration if samples.calibration is not None else samples.judged
    if data is None or samples.is_random:
        if not raw.is_picture:
            return imported, []
    elif (stranger := _no_bytes(evenly(data, TRIED), step)) is not None:
        text = f"input {step.name!r} is quantized as floats were: {stranger} is not made of bytes"
        return imported, [Note("info", f"{text} 0 to 255 by [preprocess]")]
    run_passes(model, [step])
    made = pixels_from_json(model.metadata_props.get(PIXELS_KEY)).get(step.name)
    if made is None:
        return imported, []
    floats = dict.fromkeys(made.nodes, "it stands for the bytes that an app feeds")
    imported = replace(imported, float_nodes={**imported.float_nodes, **floats})
    return imported, [Note("info", _said(step, made))]


def _no_bytes(few: Dataset, step: PixelInput) -> str | None:
    """The first sample that is not made of bytes."""
    channels = max(len(step.mean), len(step.std))
    mean, std = (v if len(v) == channels else v * channels for v in (step.mean, step.std))
    grid = Pixels(step.name, 1.0, 0, mean, std, step.axis)
    for sample in (few[i] for i in range(len(few))):
        if not grid.is_made_of_bytes(sample.feeds[step.name]):
            return sample.source
    return None


def byte_info(app: AppInfo | None, model: ir.Model, dtype: str) -> AppInfo | None:
    """What an app must know where scale, mean and std are the compiled model's own.

    Bytes are fed as they are, or less 128 where the end is int8.
    """
    if app is None or dtype not in BYTES:
        return app
    middle = 128.0 if dtype == "int8" else 0.0
    raw = pixels_from_json(model.metadata_props.get(PIXELS_KEY))
    inputs = {
        name: replace(made, mean=(middle,), std=(1.0,)) if name in raw else made
        for name, made in app.inputs.items()
    }
    return replace(app, inputs=inputs)


def _said(step: PixelInput, made: Pixels) -> str:
    text = f"input {step.name!r} takes raw bytes: scale, mean and std are in the first layer"
    off = max(abs(m - made.zero_point) for m in made.mean)
    if 0 < off <= NEAR:
        text += f"; where it pads, zeros are {off:.2g} of a byte off"
    return text
