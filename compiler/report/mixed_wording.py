"""What the report says of layers left float, of budgets, and of what else could be had."""

from typing import TYPE_CHECKING

from qcompile.compiler.report.mixed import Gate, LayerSensitivity, Mixed, MixedTimes
from qcompile.compiler.report.page import (
    Remark,
    Table,
    count,
    listed,
    short,
    size,
)
from qcompile.compiler.report.points import points_lost

if TYPE_CHECKING:
    from qcompile.compiler.report.accuracy import Accuracy

SHOWN = 10
"""Layers that the table lists; the JSON report has all of them."""


def mixed_tables(mixed: Mixed | None) -> list[Table]:
    """The layers by what the outputs gain when each of them is left float.

    ``alone`` is the SQNR of the outputs when nothing else is integer. A star has what no other
    layer beats at both, gain and multiply-adds.
    """
    if mixed is None or not mixed.layers:
        return []
    alone = any(layer.alone_db is not None for layer in mixed.layers)
    named = any(layer.pattern for layer in mixed.layers[:SHOWN])
    rows = tuple(
        (short(layer.node, 28), layer.op, f"{layer.gained_db:+.1f}")
        + ((_alone(layer.alone_db),) if alone else ())
        + (_share(layer.macs_share), _share(layer.weights_share), "*" if layer.best else "")
        + ((layer.pattern,) if named else ())
        for layer in mixed.layers[:SHOWN]
    )
    gains = ("gain dB", *(("alone dB",) if alone else ()))
    header = ("layer", "op", *gains, "MACs %", "weights %", "best")
    right = tuple(range(2, len(header) - 1))
    header += ("part of",) if named else ()
    more = len(mixed.layers) - len(rows)
    title = "Sensitivity" + (f", the first {len(rows)} of {len(mixed.layers)}" if more else "")
    return [Table(title, header, rows, right=right, whole=(0,))]


def _alone(sqnr_db: float | None) -> str:
    return "-" if sqnr_db is None else f"{sqnr_db:.1f}"


def _share(share: float) -> str:
    return f"{100 * share:.1f}"


def mixed_remarks(
    mixed: Mixed | None, times: MixedTimes | None, judged: "Accuracy | None"
) -> list[Remark]:
    """What was left float, what else there was, and whether the budgets are kept.

    Args:
        mixed: what was found on held-out samples.
        times: what a clock said.
        judged: the artefact on the data that accuracy is reported on.
    """
    if mixed is None:
        return []
    said = [Remark("info", line) for line in (*_search(mixed), *_others(mixed, times))]
    gates = (*mixed.gates, *(times.gates if times is not None else ()))
    return [*said, *map(gate_remark, gates), *_elsewhere(mixed, judged)]


def _elsewhere(mixed: Mixed, judged: "Accuracy | None") -> list[Remark]:
    """A warning where a budget that held on few samples does not hold on what is judged.

    Where the 95 % interval of what is lost there holds the budget too, that is said instead.
    """
    limit = next((gate.limit for gate in mixed.gates if gate.name == "max-drop"), None)
    if limit is None or judged is None:
        return []
    lost = points_lost(judged)
    if lost.points <= limit:
        return []
    text = f"{lost.points:.2f} points of {lost.what} are lost on {judged.data}"
    spread = ""
    if lost.low is not None and lost.high is not None:
        spread = f" (95 %: {lost.low:.2g} to {lost.high:.2g})"
        if lost.low <= limit:
            undecided = f"which neither confirm nor contradict max-drop {limit:g}"
            return [Remark("info", f"{text}{spread}, {undecided}")]
    text = f"{text}, more than max-drop {limit:g}{spread}"
    return [Remark("warning", f"{text}: the search saw held-out calibration samples only")]


def gate_remark(gate: Gate) -> Remark:
    """Whether a limit holds."""
    return Remark(
        "good" if gate.passed else "bad",
        f"{'pass' if gate.passed else 'FAIL'}: {gate.name} {_figure(gate.limit)}, {gate.how} "
        f"{_figure(gate.value)}{f' ({gate.remark})' if gate.remark else ''}",
    )


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _search(mixed: Mixed) -> list[str]:
    found = mixed.search
    if found is None:
        return []
    kinds = (("left float", found.float_layers), ("in int16", found.wide_layers))
    changed = [
        f"{count(len(layers), 'layer')} {how} for the budgets: {listed(layers)}"
        for how, layers in kinds
        if layers
    ]
    if not changed:
        text = "no layer was left float for the budgets"
    else:
        grown = f"{size(found.size_before)} -> {size(found.size)}"
        text = f"{', '.join(changed)}; {grown}"
        if found.drop is not None and found.drop_before is not None:
            text += f", {found.drop_before:.2f} -> {found.drop:.2f} points lost ({found.metric})"
    late = [] if found.in_time else ["the time for the search was over before it was done"]
    return [text, *late]


def _others(mixed: Mixed, times: MixedTimes | None) -> list[str]:
    """What each of the foremost layers that are integer would bring as float."""
    search = mixed.search
    chosen = (*search.float_layers, *search.wide_layers) if search is not None else ()
    clocked = {cost.node: cost for cost in times.costs} if times is not None else {}
    lines = []
    for layer in mixed.layers:
        if layer.points is None or layer.node in chosen:
            continue
        parts = [_gain(layer)]
        if layer.bytes is not None:
            parts.append(f"{'+' if layer.bytes >= 0 else '-'}{size(abs(layer.bytes))}")
        if layer.node in clocked:
            cost = clocked[layer.node]
            parts.append(f"{cost.ms:+.2f} ms ({cost.low:+.2f} to {cost.high:+.2f})")
        lines.append(f"keep {short(layer.node)} float: {', '.join(parts)}")
    return lines


def _gain(layer: LayerSensitivity) -> str:
    return f"{layer.points or 0.0:+.2f} points, {layer.gained_db:+.1f} dB"
