"""A model that is quantized already with int16 activations is built so: its scales fit no byte."""

from collections import Counter
from dataclasses import replace
from typing import Final

import onnx_ir as ir

from qcompile.compiler.options import BuildOptions, ends_of
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note

WIDE: Final = "w8a16"
_USUAL: Final = "w8a8"
_BYTES: Final = frozenset({ir.DataType.INT8, ir.DataType.UINT8})
_WORDS: Final = frozenset({ir.DataType.INT16, ir.DataType.UINT16})


def fitting(options: BuildOptions, model: ir.Model) -> tuple[BuildOptions, list[Note]]:
    """The options under which a model keeps its activation types, where no scheme was named.

    Args:
        options: of the build.
        model: as it was imported.

    Returns:
        ``options`` as they are for all but a model most of whose quantizers give 16 bits; for that
        one those of ``w8a16``, and a note that says so.

    Raises:
        QCompileError: SCHEME_UNSUPPORTED for a target without such kernels.
    """
    free = not (options.scheme_named or options.requantize or options.plan is not None)
    if not free or options.scheme.scheme != _USUAL or not _is_wide(model):
        return options, []
    for target in options.targets:
        if WIDE not in target.schemes:
            raise QCompileError(
                Code.SCHEME_UNSUPPORTED,
                f"the model has int16 activations, and {target.name} has no kernels for {WIDE}",
                hint="--requantize finds 8-bit scales for it instead (with calibration data)",
            )
    targets = tuple(target.under(WIDE) for target in options.targets)
    each = zip(options.ends, targets, strict=True)
    ends = tuple(ends_of(end if options.raw_bytes else None, target) for end, target in each)
    end = next((e for e in ends if e != "float"), "float")
    scheme = replace(options.scheme, scheme=WIDE, ends=end)
    note = Note("info", f"the model has int16 activations: built under {WIDE}, which keeps them")
    return replace(options, targets=targets, ends=ends, scheme=scheme), [note]


def _is_wide(model: ir.Model) -> bool:
    """Whether more activations are quantized to 16 bits than to 8."""
    made = (n.outputs[0].dtype for n in model.graph if n.op_type == "QuantizeLinear")
    kinds = Counter(kind in _WORDS for kind in made if kind in _WORDS or kind in _BYTES)
    return kinds[True] > kinds[False]
