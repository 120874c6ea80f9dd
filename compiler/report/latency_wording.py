"""What the report says of run times, of how sure they are, and of a machine that became slower."""

from typing import TYPE_CHECKING

from qcompile.compiler.report.page import Remark, count, milliseconds

if TYPE_CHECKING:
    from qcompile.compiler.report.latency import Instructions, Latency, Timing


def latency_lines(latency: "Latency") -> list[str]:
    """Two lines for every model but the first: its ratio, and the times themselves."""
    base = latency.timings[0]
    lines = []
    for timing, ratio in zip(latency.timings[1:], latency.ratios, strict=True):
        lines.append(
            f"{ratio.value:.2f}x of {base.name} ({ratio.low:.2f} to {ratio.high:.2f}): "
            f"{ratio.verdict}; {count(timing.runs, 'run')}, {count(latency.threads, 'thread')}"
        )
        spread = "" if timing.spread is None else f", spread {_spread(base)} -> {_spread(timing)}"
        lines.append(
            f"median {milliseconds(base.median_ms)} -> {milliseconds(timing.median_ms)}, "
            f"p90 {milliseconds(base.p90_ms)} -> {milliseconds(timing.p90_ms)}{spread}"
        )
    if not lines:
        lines.append(f"median {milliseconds(base.median_ms)}, p90 {milliseconds(base.p90_ms)}")
    return [*lines, *([f"a run: {latency.each}"] if latency.each else [])]


def _spread(timing: "Timing") -> str:
    return f"{100 * (timing.spread or 0.0):.0f} %"


def latency_remarks(latency: "Latency | None", where: str = "") -> list[Remark]:
    """Why the times deserve less trust than usual.

    Args:
        latency: what was measured.
        where: name of the device; empty for this machine.
    """
    if latency is None:
        return []
    on = f"on {where}: " if where else ""
    remarks = []
    if latency.settled is False and latency.wanted is not None:
        remarks.append(
            Remark(
                "info",
                f"{on}time was over with the latency ratio known to "
                f"{100 * latency.precision:.0f} %, {100 * latency.wanted:.0f} % was wanted",
            )
        )
    drift = latency.drift
    if drift is not None:
        moved = f"{100 * abs(drift.value - 1):.0f} % {'slower' if drift.value > 1 else 'faster'}"
        heat = ""
        if len(latency.temperatures) > 1:
            heat = f", {latency.temperatures[0]:.0f} to {latency.temperatures[-1]:.0f} degrees"
        remarks.append(
            Remark(
                "warning",
                f"{on}the float model became {moved} while it was timed "
                f"({drift.low:.2f} to {drift.high:.2f}{heat}): the machine warms up or its load "
                "changes. The ratio holds, the models ran in turns; the milliseconds may not",
            )
        )
    return remarks


def instruction_line(found: "Instructions") -> str:
    """The counts and their ratio, with what was counted."""
    return f"{found.ratio:.3f}x of float: {found.floats:,} -> {found.integers:,} {found.label}"
