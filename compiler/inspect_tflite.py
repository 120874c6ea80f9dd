"""``inspect`` of a TFLite file: types of all tensors, and which operators XNNPACK takes."""

from collections import Counter
from pathlib import Path

from qcompile.compiler import measure
from qcompile.compiler.importers.reading import read_model_file
from qcompile.compiler.report.model import Coverage, FloatNode, InspectReport, OpCoverage
from qcompile.compiler.report.page import count
from qcompile.core.notes import Note
from qcompile.targets.ethos_u.summary import ETHOS_U
from qcompile.targets.tflite.backend import TfliteBackend
from qcompile.targets.tflite.prove import Executed, executed
from qcompile.targets.tflite.read_app_metadata import read_app_metadata
from qcompile.targets.tflite.reading import Graph, read_graph


def inspect_tflite(path: Path) -> InspectReport:
    """Describe a TFLite file, ours or another tool's.

    Raises:
        QCompileError: MODEL_NOT_FOUND, MODEL_UNREADABLE; MODEL_INVALID for a file that is none;
            RUNTIME_REFUSED when LiteRT does not load it; MISSING_EXTRA without LiteRT.
    """
    data = read_model_file(path)
    graph = read_graph(data)
    facts = TfliteBackend().facts(data)
    ops = Counter(operator.name for operator in graph.operators)
    constants = [t for t in graph.tensors if t.is_constant]
    found = None if ops[ETHOS_U] else executed(data)
    return InspectReport(
        model=measure.artefact_info(data, facts, path.name),
        ir_version=graph.version,
        producer="qcompile" if facts.target else "",
        parameters=sum(t.size for t in constants),
        weight_types=_weight_types(graph),
        op_counts=tuple(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        target=facts.target,
        coverage=None if found is None else _coverage(found),
        notes=(
            *_for_apps(data, graph),
            *(_compiled(graph) if found is None else _notes(found)),
        ),
    )


def _compiled(graph: Graph) -> tuple[Note, ...]:
    """What of a file that Vela compiled is left to the processor; nothing here runs the rest."""
    left = [operator.name for operator in graph.operators if operator.name != ETHOS_U]
    pieces = count(len(graph.operators) - len(left), "piece")
    told = f"compiled for an Arm Ethos-U, which runs {pieces} of it; nothing here does"
    rest = f"the processor runs {', '.join(sorted(set(left)))}" if left else "the NPU runs it all"
    return Note("info", told), Note("info", rest)


def _coverage(found: Executed) -> Coverage:
    integer = Counter(o.op for o in found.operators if o.integer)
    floats = Counter(o.op for o in found.operators if not o.integer)
    return Coverage(
        ops=tuple(
            OpCoverage(op=op, integer=integer[op], float=floats[op])
            for op in sorted(integer | floats)
        ),
        float_nodes=tuple(
            FloatNode(name=o.results[0] if o.results else "", op=o.op, reason="it works on floats")
            for o in found.operators
            if not o.integer
        ),
    )


def _weight_types(graph: Graph) -> tuple[tuple[str, int], ...]:
    sizes: Counter[str] = Counter()
    for tensor in graph.tensors:
        if tensor.is_constant:
            sizes[tensor.dtype] += tensor.nbytes
    return tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def _for_apps(data: bytes, graph: Graph) -> list[Note]:
    app = read_app_metadata(data, graph.metadata)
    return [] if app is None else [Note("info", sentence) for sentence in app.sentences()]


def _notes(found: Executed) -> tuple[Note, ...]:
    """How many operators the delegate runs, and a remark for each kind that it leaves."""
    total = len(found.operators)
    notes = [Note("info", f"{found.runtime}: XNNPACK runs {found.delegated} of {total} operators")]
    for op, why in dict.fromkeys((o.op, o.reason) for o in found.left):
        notes.append(Note("info", f"XNNPACK leaves {op} to the built-in kernels: {why}"))
    return tuple(notes)
