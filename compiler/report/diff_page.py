"""Puts what a comparison found into words."""

from typing import TYPE_CHECKING, Final

from qcompile.compiler.report.page import (
    Page,
    Remark,
    Table,
    count,
    decibel,
    listed,
    percent,
    short,
    size,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcompile.compiler.report.accuracy import Accuracy
    from qcompile.compiler.report.diff_model import (
        DiffReport,
        GridDifference,
        GridInfo,
        LayerDifference,
        SideInfo,
    )

_MOST_ROWS: Final = 20
"""Rows of the tables of nodes and scales; the JSON report has all."""

_NAME: Final = 28
"""Letters of a name in a table."""

Facts = list[tuple[str, str]]


def diff_page(report: "DiffReport") -> Page:
    """The report as a page."""
    facts: Facts = [
        ("first", _side(report.first)),
        ("second", _side(report.second)),
        *([("reference", report.reference.name)] if report.reference is not None else []),
        *_sizes(report),
        *_counts(report),
        *_accuracy("outputs", "second against first", report.accuracy),
        *_accuracy("", "first against reference", report.first_accuracy),
        *_accuracy("", "second against reference", report.second_accuracy),
    ]
    tables = [
        *_count_tables(report),
        *_node_tables(report),
        *_grid_tables(report),
        *_layer_tables(report),
    ]
    title = f"{report.first.model.name} and {report.second.model.name}"
    return Page(title, tuple(facts), tuple(tables), tuple(_remarks(report)))


def _side(side: "SideInfo") -> str:
    said = [side.target, side.scheme, "" if side.has_plan or side.is_float else "no plan"]
    said += ["float"] if side.is_float and not side.has_plan else []
    extra = ", ".join(text for text in said if text)
    return side.model.name + (f" ({extra})" if extra else "")


def _sizes(report: "DiffReport") -> Facts:
    if "plan" in {report.first.format, report.second.format}:
        return []
    a, b = report.first.model.bytes, report.second.model.bytes
    ratio = f" ({percent(b / a)})" if a else ""
    return [("size", f"{size(a)} -> {size(b)}{ratio}")]


def _counts(report: "DiffReport") -> Facts:
    facts = []
    if report.nodes or report.same_nodes:
        total = len(report.nodes) + report.same_nodes
        facts.append(("nodes", f"{len(report.nodes)} of {total} become something else"))
    if report.grids or report.same_grids:
        total = len(report.grids) + report.same_grids
        text = f"{len(report.grids)} of {total} values have another scale or zero point"
        if report.retyped:
            text += f"; {report.retyped} have the same in another type"
        facts.append(("scales", text))
    if report.constants:
        text = count(len(report.constants), "constant")
        facts.append(("constants", f"{text} with other numbers: {listed(report.constants)}"))
    if report.corrections:
        facts.append(("corrections", f"{count(len(report.corrections), 'bias', 'biases')} differ"))
    if report.rounded:
        facts.append(("rounding", f"{count(len(report.rounded), 'weight')} differ"))
    return facts


def _accuracy(label: str, what: str, accuracy: "Accuracy | None") -> Facts:
    if accuracy is None:
        return []
    parts = []
    if all(output.identical for output in accuracy.outputs):
        parts.append("identical")
    elif accuracy.worst_sqnr_db is not None:
        parts.append(f"SQNR {decibel(accuracy.worst_sqnr_db)}")
    if accuracy.agreement is not None:
        parts.append(f"agreement {percent(accuracy.agreement.value)}")
    if (text := accuracy.perplexity) is not None:
        parts.append(f"perplexity {text.float_value:.3f} -> {text.artefact_value:.3f}")
    parts += [
        f"{m.metric} {percent(m.float_value)} -> {percent(m.artefact_value)}"
        for m in accuracy.metrics
    ]
    facts = [(label, f"{what}: {', '.join(parts) or 'not floats'}")]
    return [*facts, ("", f"on {accuracy.data}")] if label else facts


def _count_tables(report: "DiffReport") -> list[Table]:
    found = []
    for title, rows in (("Operators", report.operators), ("Constants", report.weight_bytes)):
        write = str if title == "Operators" else size
        cells = tuple((r.name, write(r.first), write(r.second)) for r in rows)
        if cells:
            found.append(Table(title, ("", "first", "second"), cells, right=(1, 2), whole=(0,)))
    return found


def _node_tables(report: "DiffReport") -> list[Table]:
    rows = tuple(
        (
            _tail(node.node),
            node.op,
            node.first or "-",
            node.second or "-",
            "; ".join(dict.fromkeys(filter(None, (node.first_reason, node.second_reason)))),
        )
        for node in report.nodes[:_MOST_ROWS]
    )
    header = ("node", "op", "first", "second", "why")
    title = _title("Nodes that become something else", len(report.nodes))
    return [Table(title, header, rows, whole=(1, 2, 3))] if rows else []


def _grid_tables(report: "DiffReport") -> list[Table]:
    rows = tuple(_grid_row(grid) for grid in report.grids[:_MOST_ROWS])
    header = ("value", "first", "second", "ratio", "rule")
    title = _title("Scales that differ", len(report.grids))
    return [Table(title, header, rows, right=(3,))] if rows else []


def _grid_row(grid: "GridDifference") -> tuple[str, ...]:
    rules = [side.rule for side in (grid.first, grid.second) if side is not None and side.rule]
    return (
        _tail(grid.value),
        _grid(grid.first),
        _grid(grid.second),
        "-" if grid.ratio is None else f"{grid.ratio:.3g}",
        " -> ".join(dict.fromkeys(rules)),
    )


def _grid(info: "GridInfo | None") -> str:
    if info is None:
        return "-"
    many = f" x{info.scales}" if info.scales > 1 else ""
    return f"{info.dtype} {info.scale:.4g}{many}, {info.zero_point}"


def _layer_tables(report: "DiffReport") -> list[Table]:
    if not report.layers:
        return []
    title = f"Layer by layer, on {count(report.traced, 'sample')}"
    if report.reference is None:
        header = ("value", "op", "SQNR", "cosine", "fall")
        rows = tuple(_layer_row(layer) for layer in report.layers)
    else:
        header = ("value", "op", "second to first", "first to float", "second to float")
        rows = tuple(_referenced_row(layer) for layer in report.layers)
    return [Table(title, header, rows, right=(2, 3, 4), whole=(2, 3, 4))]


def _layer_row(layer: "LayerDifference") -> tuple[str, ...]:
    fall = "-" if layer.fall_db is None else f"{layer.fall_db:.1f}"
    cosine = "-" if layer.cosine is None else f"{layer.cosine:.5f}"
    return (_marked(layer), layer.op, decibel(layer.sqnr_db), cosine, fall)


def _referenced_row(layer: "LayerDifference") -> tuple[str, ...]:
    figures = (layer.sqnr_db, layer.first_sqnr_db, layer.second_sqnr_db)
    return (_marked(layer), layer.op, *map(decibel, figures))


def _marked(layer: "LayerDifference") -> str:
    return ("> " if layer.parts_here else "") + _tail(layer.value)


def _tail(name: str) -> str:
    """The end of a long name, in which names of values differ; the JSON report has all of it."""
    return name if len(name) <= _NAME else f"...{name[3 - _NAME :]}"


def _title(text: str, total: int) -> str:
    return text if total <= _MOST_ROWS else f"{text} ({_MOST_ROWS} of {total}; --json has all)"


def _remarks(report: "DiffReport") -> "list[Remark]":
    remarks = [
        Remark("warning" if note.level == "warning" else "info", str(note)) for note in report.notes
    ]
    if report.corrections:
        remarks.append(Remark("info", f"corrections differ: {listed(report.corrections)}"))
    return [*remarks, *_parting(report.layers, report)]


def _parting(layers: "Sequence[LayerDifference]", report: "DiffReport") -> list[Remark]:
    if report.same:
        return [Remark("good", "nothing that was looked at differs")]
    if not layers:
        return []
    here = next((layer for layer in layers if layer.parts_here), None)
    limit = f"{report.largest_fall_db:g} dB"
    if here is None:
        return [Remark("info", f"the two part nowhere by more than {limit} at once")]
    where = f"{short(here.value, 60)} ({here.op})"
    if report.reference is None:
        text = f"the two part at {where}: SQNR falls by {here.fall_db or 0:.1f} dB there"
    else:
        worse = "second" if (here.fall_db or 0) > 0 else "first"
        gap = abs(here.fall_db or 0)
        text = f"the two part at {where}: the {worse} is {gap:.1f} dB further from float there"
    return [Remark("warning", text)]
