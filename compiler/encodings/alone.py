"""A static plan whose every scale is given by a file of encodings: it needs no samples."""

from collections.abc import Mapping

import onnx_ir as ir

from qcompile.compiler.encodings.importing import GivenEncodings
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import Compiled
from qcompile.compiler.planning import complete, empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.target import Target
from qcompile.passes.plan.activations import observed_values

RANGES = "imported"
NAMED = 3
"""How many values without a scale a message names."""


def compile_by_encodings(
    model: ir.Model, target: Target, scheme: Scheme, floats: Mapping[str, str]
) -> Compiled | None:
    """Plan and quantize a canonical float graph by what a file says of it.

    Weights that the file does not give take scales from their own numbers; biases are not
    corrected, since there is nothing to correct them by.

    Args:
        model: the canonical float graph; kept as it is.
        target: what the artefact is for.
        scheme: a static one, with ``encodings``.
        floats: node name -> why it must stay float.

    Returns:
        None where some activation has neither a scale in the file nor one that follows.
    """
    plan = empty_plan(model, target, scheme, floats)
    if observed_values(model.graph, plan, target):
        return None
    saturation, notes = complete(model, plan, target, scheme, {})
    notes.append(Note("info", "biases are not corrected: there are no samples"))
    return Compiled(model, plan, quantize(model, plan), saturation, tuple(notes), RANGES)


def no_scales(
    model: ir.Model,
    target: Target,
    scheme: Scheme,
    given: GivenEncodings,
    floats: Mapping[str, str],
) -> QCompileError:
    """What to say where ``compile_by_encodings`` gives None and there are no samples."""
    plan = empty_plan(model, target, scheme, floats)
    missing = [value.name or "" for value in observed_values(model.graph, plan, target)]
    more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
    return QCompileError(
        Code.NO_DATA,
        f"{given.path.name} has no scales for {', '.join(missing[:NAMED])}{more}, and there are no "
        "samples to find them",
        hint="give calibration data with -d, or encodings of every activation",
    )
