"""``import``: a model of any format as the compiler sees it, written as ONNX."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from qcompile.compiler.export import float_file
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import load_source, open_source
from qcompile.compiler.options import Scheme
from qcompile.compiler.output import OutputSet
from qcompile.compiler.pipeline import prepare
from qcompile.compiler.report.page import Page, Remark, Table, size
from qcompile.core.notes import Note
from qcompile.core.signature import Signature
from qcompile.targets.catalog import load_target
from qcompile.targets.host import host_target


@dataclass(frozen=True)
class ImportResult:
    """What was written."""

    path: Path
    model: str
    format: str
    bytes: int
    signature: Signature
    op_counts: tuple[tuple[str, int], ...]
    """Operators of the main graph, the most frequent first."""
    notes: tuple[Note, ...]

    def page(self) -> Page:
        """The result in words."""
        facts = [("model", self.model), ("format", self.format), ("size", size(self.bytes))]
        for label, specs in (
            ("inputs", self.signature.inputs),
            ("outputs", self.signature.outputs),
        ):
            for number, spec in enumerate(specs):
                facts.append(("" if number else label, str(spec)))
        rows = tuple((op, str(number)) for op, number in self.op_counts)
        remarks = tuple(Remark(note.level, str(note)) for note in self.notes)
        table = Table("operators", ("op", "nodes"), rows, right=(1,))
        return Page(self.path.name, tuple(facts), (table,) if rows else (), remarks)


def import_model(
    model: str,
    out: Path,
    importing: ImportOptions,
    *,
    prepared: bool = False,
    target: str | Path | None = None,
) -> ImportResult:
    """Write what the compiler sees of a model.

    Args:
        model: as the user names it.
        out: the ONNX file to write.
        importing: how it is read, and the shapes.
        prepared: write the canonical float graph that scales are chosen for.
        target: whom it is prepared for, which may want recurrent nodes unrolled [this machine].

    Raises:
        QCompileError: what reading, preparing and writing raise.
    """
    given = [Path(model)] if Path(model).exists() else []
    outputs = OutputSet(out, suffixes=(), inputs=given)
    with open_source(model, importing) as source:
        described = load_target(host_target() if target is None else target)
        static = prepared and described.static_shapes
        imported = load_source(source, importing.shapes, static=static)
        outputs.protect(imported.files)
        if prepared:
            prepare(imported, Scheme(), unroll=described.unroll)
        data = float_file(imported.model)
    with outputs:
        outputs.write("", data)
        outputs.commit()
    ops = Counter(node.op_type for node in imported.model.graph)
    return ImportResult(
        outputs.path(),
        source.name,
        source.format,
        len(data),
        imported.signature,
        tuple(sorted(ops.items(), key=lambda item: (-item[1], item[0]))),
        imported.notes,
    )
