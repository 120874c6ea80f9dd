"""``inspect``: what is in a model file, and what of it is integer."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir

from qcompile.compiler import measure
from qcompile.compiler.importers.onnx import Imported
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import Source, load_source, open_source
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.report.model import Coverage, FloatNode, InspectReport, OpCoverage
from qcompile.compiler.verify.coverage import planned_coverage
from qcompile.core.app_info import APP_KEY, AppInfo
from qcompile.core.backend import SIMULATED_KEY, TARGET_KEY
from qcompile.core.notes import Note
from qcompile.core.target import Target
from qcompile.targets.catalog import load_target
from qcompile.targets.host import host_target
from qcompile.targets.onnxruntime.executed import executed, is_quantized


def inspect_file(
    model: str, target: Target | None, importing: ImportOptions | None = None
) -> InspectReport:
    """Describe a model file.

    A model with quantizers or integer kernels is taken for an artefact: ONNX Runtime's own graph
    says what runs as integers. A float model is planned for the target, without data.

    Args:
        model: the .onnx file, or what else can be imported.
        target: whose operator table to hold it against; by default that of the target that the
            artefact says it was made for, else of this machine's.
        importing: how a model that is no ONNX file is read.

    Raises:
        QCompileError: for a file that is no model; RUNTIME_REFUSED for an artefact that does not
            load.
    """
    with open_source(model, importing) as source:
        return _inspect(source, target)


def _inspect(source: Source, target: Target | None) -> InspectReport:
    imported = load_source(source, allow_integer=True)
    model = imported.model
    weights = _weight_types(model)
    chosen = (
        target
        or measure.known_target(model.metadata_props.get(TARGET_KEY, ""))
        or load_target(host_target())
    )
    is_artefact = is_quantized(model)
    ops = Counter(node.op_type for graph in model.graphs() for node in graph)
    counts = tuple(sorted(ops.items(), key=lambda item: (-item[1], item[0])))
    parameters = sum(
        v.const_value.size
        for graph in model.graphs()
        for v in graph.initializers.values()
        if v.const_value is not None
    )
    producer = " ".join(filter(None, (model.producer_name, model.producer_version)))
    info = measure.file_info(source.path, imported)
    covered = executed_coverage(source.path, chosen) if is_artefact else _planned(imported, chosen)
    return InspectReport(
        model=info,
        ir_version=model.ir_version or 0,
        producer=producer,
        parameters=parameters,
        weight_types=weights,
        op_counts=counts,
        target=chosen.name,
        coverage=covered,
        notes=(
            *_for_apps(model),
            *(note for note in imported.notes if note.level == "warning"),
        ),
        simulated=model.metadata_props.get(SIMULATED_KEY, ""),
    )


def _for_apps(model: ir.Model) -> list[Note]:
    app = AppInfo.from_json(model.metadata_props.get(APP_KEY, ""))
    return [] if app is None else [Note("info", sentence) for sentence in app.sentences()]


def executed_coverage(artefact: bytes | Path, target: Target) -> Coverage:
    """What ONNX Runtime runs of an artefact, by its own names of ops."""
    nodes = executed(artefact, target)
    integer = Counter(node.op for node in nodes if node.integer)
    floats = Counter(node.op for node in nodes if not node.integer)
    return Coverage(
        ops=tuple(
            OpCoverage(op=op, integer=integer[op], float=floats[op])
            for op in sorted(integer | floats)
        ),
        float_nodes=tuple(
            FloatNode(name=n.name, op=n.op, reason=n.reason) for n in nodes if not n.integer
        ),
    )


def _planned(imported: Imported, target: Target) -> Coverage:
    model = prepare(imported, Scheme(), unroll=target.unroll)
    plan = empty_plan(model, target, Scheme(), imported.float_nodes)
    return planned_coverage(model, plan)


def _weight_types(model: ir.Model) -> tuple[tuple[str, int], ...]:
    sizes: Counter[str] = Counter()
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                sizes[_type_name(value.const_value.dtype)] += value.const_value.nbytes
    return tuple(sorted(sizes.items(), key=lambda item: (-item[1], item[0])))


def _type_name(dtype: ir.DataType) -> str:
    """As the ends of a model are described: float32, not float."""
    is_text = dtype == ir.DataType.STRING
    return "string" if is_text else np.dtype(dtype.numpy()).name
