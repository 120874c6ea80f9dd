"""Puts each kind of report into words."""

from typing import TYPE_CHECKING, cast

from qcompile.compiler.report.decoding_wording import decoding_facts
from qcompile.compiler.report.device_wording import (
    across_remarks,
    across_tables,
    device_facts,
    device_tables,
)
from qcompile.compiler.report.diff_page import diff_page
from qcompile.compiler.report.latency_wording import latency_lines, latency_remarks
from qcompile.compiler.report.left_float import left_float
from qcompile.compiler.report.mixed_wording import gate_remark, mixed_remarks, mixed_tables
from qcompile.compiler.report.never_slower import never_slower_tables
from qcompile.compiler.report.offload_wording import offload_facts, offload_tables
from qcompile.compiler.report.own_scales_wording import own_scale_tables
from qcompile.compiler.report.page import (
    Page,
    Remark,
    Table,
    count,
    decibel,
    percent,
    short,
    size,
)
from qcompile.compiler.report.stored import (
    stored_facts,
    stored_tables,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcompile.compiler.report.accuracy import Accuracy, Labelled, OwnFigure, Perplexity
    from qcompile.compiler.report.diff_model import AnyReport, DiffReport
    from qcompile.compiler.report.model import (
        BuildReport,
        CheckReport,
        Coverage,
        InspectReport,
        LayerQuality,
        Measured,
        Saturation,
    )
    from qcompile.compiler.report.tried import TriedStep
    from qcompile.core.notes import Note

Facts = list[tuple[str, str]]


def page_of(report: "AnyReport") -> Page:
    """The report as a page."""
    if report.kind == "build":
        return _build_page(cast("BuildReport", report))
    if report.kind == "check":
        return _check_page(cast("CheckReport", report))
    if report.kind == "inspect":
        return _inspect_page(cast("InspectReport", report))
    return diff_page(cast("DiffReport", report))


def _build_page(report: "BuildReport") -> Page:
    scheme = [report.scheme, f"effort {report.effort}"]
    scheme += [f"ranges {report.ranges}"] if report.ranges else []
    scheme += [f"{name} {value}" for name, value in report.options]
    facts: Facts = [
        ("target", f"{report.target} ({report.target_title})"),
        ("scheme", ", ".join(scheme)),
        ("calibration", report.calibration),
        ("size", _sizes(report.model.bytes, report.artefact.bytes, report.size_ratio)),
        *stored_facts(report.stored),
        *_coverage_facts(report.coverage),
        *offload_facts(report.offload, report.measured.off_share),
        *_accuracy_facts(report.accuracy, report.no_accuracy),
        *_latency_facts(report.measured),
        *decoding_facts(report.cache, report.measured),
        *device_facts(report.devices, report.measured),
        *_saturation_facts(report.saturation),
        *_time_facts(report.measured),
    ]
    tables = [
        *stored_tables(report.stored),
        *_coverage_tables(report.coverage),
        *offload_tables(report.offload, floats_listed=True),
        *_output_tables(report.accuracy),
        *device_tables(report.devices, report.measured, fewest=1),
        *_tried_tables(report.tried, report.measured),
        *_layer_tables(report.worst_layers),
        *own_scale_tables(report.own_scales),
        *mixed_tables(report.mixed),
        *never_slower_tables(report.regions),
        *_pass_tables(report.measured),
    ]
    mixed = mixed_remarks(report.mixed, report.measured.mixed, report.accuracy)
    unfit = [Remark("bad", f"NOT FIT TO SHIP: {reason}") for reason in report.unfit]
    made = f" -> {report.artefact.name}" if report.artefact.name else ""
    return Page(
        _title(report.model.name + made, report.simulated),
        tuple(facts),
        tuple(tables),
        (
            *_remarks(report.notes),
            *_timed(report.measured),
            *mixed,
            *map(gate_remark, report.gates),
            *unfit,
        ),
    )


def _check_page(report: "CheckReport") -> Page:
    facts: Facts = [
        ("reference", report.reference.name),
        ("size", _sizes(report.reference.bytes, report.artefact.bytes, report.size_ratio)),
        *(_coverage_facts(report.coverage) if report.coverage else ()),
        *offload_facts(report.offload, report.measured.off_share),
        *_accuracy_facts(report.accuracy, _no_accuracy(report)),
        *_latency_facts(report.measured),
        *decoding_facts(report.cache, report.measured),
        *device_facts(report.devices, report.measured),
    ]
    tables = [
        *(_coverage_tables(report.coverage) if report.coverage else ()),
        *offload_tables(report.offload, floats_listed=report.coverage is not None),
        *_output_tables(report.accuracy),
        *device_tables(report.devices, report.measured),
        *across_tables(report.across),
    ]
    timed = [*_timed(report.measured), *across_remarks(report.across)]
    gates = map(gate_remark, report.gates)
    title = _title(f"{report.artefact.name} checked", report.simulated)
    return Page(title, tuple(facts), tuple(tables), (*_remarks(report.notes), *timed, *gates))


def _no_accuracy(report: "CheckReport") -> str:
    return report.devices[0].no_accuracy if report.devices else "not measured"


def _inspect_page(report: "InspectReport") -> Page:
    model = report.model
    weights = ", ".join(f"{dtype} {size(n)}" for dtype, n in report.weight_types)
    onnx = f"ONNX opset {model.opset}, IR version {report.ir_version}"
    facts: Facts = [
        ("format", onnx if model.opset else f"TFLite, schema version {report.ir_version}"),
        ("made by", report.producer or "not said"),
        ("size", size(model.bytes)),
        ("constants", f"{report.parameters:,} elements" + (f": {weights}" if weights else "")),
        *_continued("inputs", [str(spec) for spec in model.inputs]),
        *_continued("outputs", [str(spec) for spec in model.outputs]),
    ]
    if report.coverage is not None:
        facts += [("target", report.target)] if report.target else []
        facts += _coverage_facts(report.coverage)
        tables = _coverage_tables(report.coverage)
    else:
        rows = tuple((op, str(n)) for op, n in report.op_counts)
        tables = [Table("Operators", ("op", "nodes"), rows, right=(1,))]
    title = _title(model.name, report.simulated)
    return Page(title, tuple(facts), tuple(tables), _remarks(report.notes))


def _title(text: str, simulated: str) -> str:
    """The first line, which tells a simulation."""
    return f"SIMULATION of {simulated}, not to ship: {text}" if simulated else text


def _sizes(before: int, after: int, ratio: float) -> str:
    return f"{size(before)} -> {size(after)} ({percent(ratio)})"


def _continued(label: str, lines: "Sequence[str]") -> Facts:
    return [(label if i == 0 else "", line) for i, line in enumerate(lines)]


def _coverage_facts(coverage: "Coverage") -> Facts:
    text = f"{coverage.integer} of {count(coverage.total, 'node')}"
    if any(op.macs_integer or op.macs_float for op in coverage.ops):
        text += f", {percent(coverage.macs_share)} of the multiply-adds"
    return [("integer", text)]


def _accuracy_facts(accuracy: "Accuracy | None", missing: str) -> Facts:
    if accuracy is None:
        return [("accuracy", missing or "not measured")]
    lines = [
        f"{m.metric} {m.float_value:.4g} -> {m.artefact_value:.4g}, {_lost(m)}"
        for m in accuracy.own
    ]
    lines += [
        f"{m.metric} {percent(m.float_value)} -> {percent(m.artefact_value)}, {_lost(m)}"
        for m in accuracy.metrics
    ]
    if accuracy.perplexity is not None:
        lines.append(_perplexity(accuracy.perplexity))
    share = accuracy.agreement
    if share is not None:
        of = "of the next token " if accuracy.perplexity is not None else ""
        lines.append(
            f"agreement {of}with float {percent(share.value)} "
            f"(95 % interval {100 * share.low:.1f} to {100 * share.high:.1f})"
        )
    worst = accuracy.worst_sqnr_db
    if worst is not None:
        lines.append(f"SQNR {decibel(worst)}" + _of_the_worst(accuracy))
    lines.append(f"on {accuracy.data}")
    if accuracy.arithmetic:
        lines.append(f"with {accuracy.arithmetic}")
    return _continued("accuracy", lines)


def _perplexity(found: "Perplexity") -> str:
    rise, low, high = found.rise_percent, found.rise_low, found.rise_high
    text = f"perplexity {found.float_value:.3f} -> {found.artefact_value:.3f}, {rise:+.2f} %"
    within = "" if low is None or high is None else f"95 %: {low:+.2f} to {high:+.2f}; "
    return f"{text} ({within}{count(found.tokens, 'token')})"


def _of_the_worst(accuracy: "Accuracy") -> str:
    return " at the worst output" if len(accuracy.outputs) > 1 else ""


def _lost(figure: "Labelled | OwnFigure") -> str:
    """What was lost or won, and within which bounds; both are given from the same side."""
    points, low, high = figure.drop_points, figure.drop_low, figure.drop_high
    text = "nothing lost"
    if abs(points) >= 0.005:
        text = f"{abs(points):.2f} points {'lost' if points > 0 else 'won'}"
    if points < 0 and low is not None and high is not None:
        low, high = -high, -low
    remarks = [] if low is None or high is None else [f"95 %: {_side(low)} to {_side(high)}"]
    lost, won = getattr(figure, "lost", None), getattr(figure, "won", None)
    if lost is not None and won is not None:
        remarks.append(f"{lost} lost, {won} won{_verdict(getattr(figure, 'chance', None))}")
    return f"{text} ({'; '.join(remarks)})" if remarks else text


def _side(points: float) -> str:
    """An end of an interval, with two digits where one would say nothing."""
    text = f"{points:.1f}" if abs(points) >= 0.1 else f"{points:.2f}"
    return "0" if float(text) == 0 else text


def _verdict(chance: float | None) -> str:
    """Whether the difference is more than noise, at the usual 5 %."""
    if chance is None or chance == 1:
        return ""
    odds = "under 0.001" if chance < 0.001 else f"{chance:.2g}"
    return f": {'more than chance' if chance < 0.05 else 'may be chance'} (p {odds})"


def _latency_facts(measured: "Measured") -> Facts:
    latency = measured.latency
    if latency is None:
        return [("latency", measured.no_latency)] if measured.no_latency else []
    return _continued("latency", latency_lines(latency))


def _timed(measured: "Measured") -> "list[Remark]":
    """What to know of the times: of each device, or of this process."""
    if measured.devices:
        return [r for one in measured.devices for r in latency_remarks(one.latency, one.spec)]
    return latency_remarks(measured.latency)


def _saturation_facts(saturation: "Saturation | None") -> Facts:
    if saturation is None:
        return []
    parts = [f"{count(saturation.layers_proven, 'layer')} proven free of it"]
    if saturation.channels_shrunk:
        channels = count(saturation.channels_shrunk, "channel")
        parts.append(f"{channels} of {count(saturation.layers_shrunk, 'layer')} shrunk")
    if saturation.layers_unsigned:
        parts.append(f"{count(saturation.layers_unsigned, 'layer')} with unsigned weights")
    return [("saturation", ", ".join(parts))]


def _time_facts(measured: "Measured") -> Facts:
    facts: Facts = []
    if measured.steps:
        total = sum(step.seconds for step in measured.steps)
        longest = sorted(measured.steps, key=lambda step: -step.seconds)[:3]
        detail = ", ".join(f"{step.name} {step.seconds:.1f}" for step in longest)
        facts.append(("time", f"{total:.1f} s ({detail})"))
    if measured.peak_memory_mb is not None:
        facts.append(("memory", f"{measured.peak_memory_mb:.0f} MB at the peak"))
    return facts


def _coverage_tables(coverage: "Coverage") -> list[Table]:
    macs = any(op.macs_integer or op.macs_float for op in coverage.ops)
    total = sum(op.macs_integer + op.macs_float for op in coverage.ops) or 1
    rows = tuple(
        (op.op, str(op.integer), str(op.float))
        + ((percent((op.macs_integer + op.macs_float) / total),) if macs else ())
        for op in coverage.ops
    )
    header = ("op", "integer", "float") + (("multiply-adds",) if macs else ())
    tables = [Table("Operators", header, rows, right=(1, 2, 3))] if rows else []
    return [*tables, *left_float(coverage.float_nodes)]


def _output_tables(accuracy: "Accuracy | None") -> list[Table]:
    if accuracy is None or len(accuracy.outputs) < 2:
        return []
    rows = tuple(
        (
            short(o.name),
            decibel(o.sqnr_db),
            "-" if o.cosine is None else f"{o.cosine:.5f}",
            "-" if o.equal is None else percent(o.equal),
        )
        for o in accuracy.outputs
    )
    return [Table("Outputs", ("output", "SQNR", "cosine", "equal"), rows, right=(1, 2, 3))]


def _tried_tables(tried: "Sequence[TriedStep]", measured: "Measured") -> list[Table]:
    """What each step bought; agreement for classifiers, seconds where a clock was read."""
    classes = any(t.agreement_before is not None for t in tried)
    times: list[tuple[str, ...]] = [(f"{step.seconds:.1f}",) for step in measured.tried]
    rows = tuple(
        (t.step, f"{t.db_before:.1f}", f"{t.db_after:.1f}")
        + ((_shares(t),) if classes else ())
        + ("yes" if t.kept else "no", *seconds)
        for t, seconds in zip(tried, times or [()] * len(tried), strict=True)
    )
    header = ("step", "dB before", "after", *(("agreement %",) if classes else ()), "kept")
    header += ("s",) if times else ()
    right = (1, 2, *((3,) if classes else ()), *((len(header) - 1,) if times else ()))
    return [Table("What each step bought", header, rows, right=right)] if rows else []


def _shares(tried: "TriedStep") -> str:
    before, after = tried.agreement_before, tried.agreement_after
    return " -> ".join("-" if share is None else f"{100 * share:.1f}" for share in (before, after))


def _layer_tables(layers: "Sequence[LayerQuality]") -> list[Table]:
    rows = tuple((short(layer.node), layer.op, decibel(layer.sqnr_db)) for layer in layers)
    return [Table("Worst layers", ("node", "op", "SQNR"), rows, right=(2,))] if rows else []


def _pass_tables(measured: "Measured") -> list[Table]:
    rows = tuple(
        (p.name, f"{1e3 * p.seconds:.1f}", "yes" if p.changed else "no", str(p.nodes))
        for p in measured.passes
    )
    return [Table("Passes", ("pass", "ms", "changed", "nodes"), rows, right=(1, 3))] if rows else []


def _remarks(notes: "Sequence[Note]") -> tuple[Remark, ...]:
    return tuple(Remark(note.level, str(note)) for note in notes)
