"""Parameters of values that stand for an app's bytes: the grid of the bytes, not a measured one."""

import numpy as np
import onnx_ir as ir

from qcompile.core.numerics.affine import zero_offset
from qcompile.core.pixels import PIXELS_KEY, pixels_from_json
from qcompile.core.plan import Fixed, QuantParams, QuantPlan, ValuePlan
from qcompile.core.target import Target

RULE = "bytes"


def fix_pixels(model: ir.Model, plan: QuantPlan, target: Target) -> None:
    """Add an entry with its parameters for each such value, before others are tied to it.

    ``(u - z) * scale`` for every byte u is then exact. Where activations have another width, or
    their zero point has to be in the middle, the value is quantized as any other.

    Args:
        model: the canonical float graph, with its note of bytes (``passes.prepare.pixel_input``).
        plan: without values yet.
        target: its activations decide the type.
    """
    numbers = target.activations
    if numbers.dtype not in {"uint8", "int8"} or numbers.symmetric:
        return
    for pixels in pixels_from_json(model.metadata_props.get(PIXELS_KEY)).values():
        zero = pixels.zero_point - zero_offset("uint8") + zero_offset(numbers.dtype)
        plan.values[pixels.value] = ValuePlan(
            pixels.value,
            "activation",
            numbers.dtype,
            relation=Fixed("bytes"),
            params=QuantParams(np.asarray(pixels.scale, np.float32), np.asarray(zero, np.int64)),
            rule=RULE,
            reason="an app feeds it raw bytes",
        )
