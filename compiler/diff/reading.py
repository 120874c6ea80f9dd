"""Reads a side by its file's ending, and the plan that lies beside an artefact of ours."""

import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from qcompile.compiler.diff.onnx_side import read_onnx
from qcompile.compiler.diff.side import Grid, NodeInfo, Side
from qcompile.compiler.diff.tflite_side import read_tflite
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import open_source
from qcompile.compiler.output import PLAN, REPORT
from qcompile.compiler.report.model import ModelInfo
from qcompile.compiler.saved_plan import read_plan
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan


def read_side(given: str, importing: ImportOptions, opened: ExitStack) -> tuple[Side, list[Note]]:
    """Read a model, or a plan that stands alone.

    Args:
        given: its path, or what else an importer takes.
        importing: how a model of another format is read; and the shapes.
        opened: keeps what was converted for as long as the side is read.

    Returns:
        The side, and a warning for a plan beside it that belongs to another file.

    Raises:
        QCompileError: what is wrong with the file.
    """
    path = Path(given)
    if path.name.endswith(".json"):
        return _of_plan(path), []
    if path.suffix == ".tflite":
        side = read_tflite(path)
    else:
        source = opened.enter_context(open_source(given, importing))
        side = read_onnx(source.path, importing.shapes, source)
    beside = path.with_name(path.name + PLAN)
    if not beside.is_file():
        return side, []
    if not _belongs(path, side.info.sha256):
        text = f"{beside.name} is not used: {path.name} is not the file it was written with"
        return side, [Note("warning", text)]
    return with_plan(side, read_plan(beside).plan), []


def with_plan(side: Side, plan: QuantPlan) -> Side:
    """A side with what its plan adds: nodes by the user's names, reasons, what the file hides.

    Scales stay those of the file; the plan's are taken for values that the file does not name.
    """
    nodes = {name: NodeInfo(n.op, n.mode, n.reason) for name, n in plan.nodes.items()}
    return replace(
        side,
        nodes=nodes or side.nodes,
        grids={**_grids(plan), **side.grids},
        target=side.target or plan.target,
        plan=plan,
    )


def _of_plan(path: Path) -> Side:
    plan = read_plan(path).plan
    info = ModelInfo(name=path.name, bytes=path.stat().st_size, nodes=len(plan.nodes), sha256="")
    return with_plan(Side(path=path, format="plan", info=info), plan)


def _grids(plan: QuantPlan) -> dict[str, Grid]:
    return {
        name: Grid("weight" if entry.role == "weight" else "activation", entry.dtype, entry.params)
        for name, entry in plan.values.items()
        if entry.params is not None and entry.role != "bias"
    }


def _belongs(path: Path, sha256: str) -> bool:
    """Whether the report beside an artefact was written with this very file; true without one."""
    report = path.with_name(path.name + REPORT)
    try:
        written = json.loads(report.read_bytes())["artefact"]["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return bool(written == sha256)
