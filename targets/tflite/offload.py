"""What of a TFLite file XNNPACK leaves to the built-in kernels, or runs in floats."""

from pathlib import Path
from typing import Final

from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.pieces import count_pieces
from qcompile.targets.tflite.prove import BETWEEN_TYPES, OperatorProof, executed
from qcompile.targets.tflite.runtime import open_interpreter

FLOATS: Final = "it works on floats"


def offload(artefact: bytes | Path) -> Offload:
    """Operators of a file under LiteRT with XNNPACK.

    The quantizers at float ends count where XNNPACK leaves them: they are no work of the model.

    Raises:
        QCompileError: MODEL_INVALID, RUNTIME_REFUSED, MISSING_EXTRA as ``prove.executed``.
    """
    found = executed(artefact)
    off = {op.index: reason for op in found.operators if (reason := _why_off(op))}
    ends = {op.index: (op.sources, op.results) for op in found.operators}
    return Offload(
        to="XNNPACK",
        nodes=len(found.operators),
        on=len(found.operators) - len(off),
        partitions=_partitions(artefact),
        islands=count_pieces([ends[index] for index in off]),
        off=tuple(
            OffNode(next(iter(op.results), op.op), op.op, off[op.index])
            for op in found.operators
            if op.index in off
        ),
        source=found.runtime,
    )


def _why_off(op: OperatorProof) -> str:
    if not op.delegated:
        return op.reason
    return "" if op.integer or op.op in BETWEEN_TYPES else FLOATS


def _partitions(artefact: bytes | Path) -> int:
    """How many pieces XNNPACK takes when it takes as much as it can at once."""
    details = open_interpreter(artefact)._get_ops_details()  # LiteRT has no public list
    return sum(entry["op_name"] == "DELEGATE" for entry in details)
