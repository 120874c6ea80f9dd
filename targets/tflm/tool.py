"""What TFLite Micro makes of an artefact: the arena it needs, and which operators stay float."""

from dataclasses import dataclass
from typing import Final

from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.accelerator_tool import Accelerated
from qcompile.core.errors import QCompileError
from qcompile.core.notes import Note
from qcompile.core.pieces import count_pieces
from qcompile.core.target import Target
from qcompile.targets.tflite.reading import Graph, Operator, read_graph
from qcompile.targets.tflm.arena import smallest_arena
from qcompile.targets.tflm.session import EXTRA, is_installed, runtime_name

ARENA: Final = "arena_bytes"
TO: Final = "integer kernels"
HOW: Final = """\
the smallest arena that was found by trying on this machine, whose pointers have 64 bits, with the \
reference kernels; with 32-bit pointers it is smaller, CMSIS-NN's kernels add scratch memory"""

_FLOATS: Final = frozenset({"float16", "float32", "float64"})
_BORDERS: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True)
class Tflm:
    """See ``core.accelerator.AcceleratorTool``; the artefact ships as it is."""

    def accelerate(self, artefact: bytes, target: Target) -> Accelerated:
        """Run the artefact under TFLite Micro and find the smallest arena for it.

        Where the interpreter is not installed, or does not run the model, a note says so: the file
        is none the worse for it.
        """
        estimates: dict[str, float] = {}
        source, how, notes = "the file", "", []
        if not is_installed():
            why = f"its arena was not measured: {EXTRA}"
            notes.append(Note("info", f"{why} has TFLite Micro's interpreter"))
        else:
            source = runtime_name()
            try:
                estimates[ARENA], how = smallest_arena(artefact), HOW
            except QCompileError as error:
                notes.append(Note("warning", error.message))
        offload = offload_of(read_graph(artefact), estimates, source, how)
        return Accelerated(artefact, offload, tuple(notes))


def offload_of(graph: Graph, estimates: dict[str, float], source: str, how: str) -> Offload:
    """Which operators of a file work on integers.

    A QUANTIZE of floats and a DEQUANTIZE are borders between the two and count for neither.
    """
    on = [op for op in graph.operators if not _is_float(graph, op)]
    off = [op for op in graph.operators if _is_float(graph, op) and op.name not in _BORDERS]
    return Offload(
        to=TO,
        nodes=len(on) + len(off),
        on=len(on),
        partitions=count_pieces([_ends(graph, op) for op in on]),
        islands=count_pieces([_ends(graph, op) for op in off]),
        off=tuple(
            OffNode(graph.tensors[op.outputs[0]].name, op.name, f"{op.name} works on floats")
            for op in off
        ),
        estimates=estimates,
        source=source,
        estimated=how,
    )


def _is_float(graph: Graph, op: Operator) -> bool:
    operands = (graph.tensor(i) for i in (*op.inputs, *op.outputs))
    return any(t is not None and t.dtype in _FLOATS for t in operands)


def _ends(graph: Graph, op: Operator) -> tuple[list[int], list[int]]:
    """What an operator reads of others, and what it makes."""
    computed = [i for i in op.inputs if i >= 0 and not graph.tensors[i].is_constant]
    return computed, list(op.outputs)
