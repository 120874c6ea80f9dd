"""What the report says of devices: what they are, what each measured, and where results part."""

from typing import TYPE_CHECKING

from qcompile.compiler.report.latency_wording import instruction_line
from qcompile.compiler.report.page import (
    Remark,
    Table,
    count,
    decibel,
    milliseconds,
    percent,
    short,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qcompile.compiler.report.devices import Across, AcrossDevice, DeviceFacts, Found, Gap
    from qcompile.compiler.report.model import Measured, OnDevice

Facts = list[tuple[str, str]]
SHOWN = 12
"""Values that a table of layers lists; the JSON report has all of them."""


def device_facts(devices: "Sequence[OnDevice]", measured: "Measured") -> Facts:
    """A line for each device, and the instructions where they stand for times."""
    lines = [_described(one.device) for one in devices]
    facts = [("device" if i == 0 else "", line) for i, line in enumerate(lines)]
    counted = measured.instructions
    if counted is not None:
        facts.append(("instructions", instruction_line(counted)))
    elif measured.devices and measured.devices[0].no_instructions:
        facts.append(("instructions", measured.devices[0].no_instructions))
    return facts


def _described(device: "DeviceFacts") -> str:
    what = [device.machine, device.cpu, count(device.cores, "core"), *device.features]
    what += [f"{name} {version}" for name, version in device.runtimes]
    what += [f"governor {device.governor}"] if device.governor else []
    what += ["emulated"] if device.emulated else []
    return f"{device.spec}: {', '.join(part for part in what if part)}"


def device_tables(
    devices: "Sequence[OnDevice]", measured: "Measured", *, fewest: int = 2
) -> list[Table]:
    """Devices beside each other, if there are as many: of one alone the facts tell a check."""
    if len(devices) < fewest:
        return []
    rows = []
    for one, times in zip(devices, measured.devices, strict=True):
        accuracy, latency, counted = one.accuracy, times.latency, times.instructions
        share = accuracy.agreement if accuracy is not None else None
        rows.append(
            (
                one.device.spec,
                "-" if accuracy is None else str(accuracy.samples),
                "-" if share is None else percent(share.value),
                "-" if accuracy is None else decibel(accuracy.worst_sqnr_db),
                "-" if latency is None else milliseconds(latency.timings[-1].median_ms),
                "-" if latency is None or not latency.ratios else f"{latency.ratios[0].value:.2f}x",
                "-" if counted is None else f"{counted.ratio:.3f}x",
            )
        )
    header = ("device", "samples", "agreement", "SQNR", "median", "of float", "instructions")
    kept = [i for i in range(len(header)) if any(row[i] != "-" for row in rows)]
    shown = tuple(tuple(row[i] for i in kept) for row in rows)
    right = tuple(range(1, len(kept)))
    return [Table("Devices", tuple(header[i] for i in kept), shown, right=right, whole=(0,))]


# --- the same inputs on each -------------------------------------------------------------------


def across_tables(across: "Across | None") -> list[Table]:
    """The outputs on each device, and the values that are not equal to the reference's."""
    if across is None:
        return []
    outputs = tuple(
        (one.spec, short(gap.value), _size(gap), _share(gap), gap.verdict)
        for one in across.devices
        for gap in one.outputs
    )
    header = ("device", "output", "largest", "differ", "verdict")
    title = f"Outputs against {across.reference} ({across.rule}), "
    title += count(across.samples, "sample")
    tables = [Table(title, header, outputs, right=(2, 3), whole=(0,))]
    return [*tables, *(t for one in across.devices for t in _layers(one))]


def _layers(one: "AcrossDevice") -> list[Table]:
    gaps = [gap for gap in one.layers if gap.verdict != "equal"]
    if not gaps:
        return []
    rows = tuple(
        (short(gap.value), gap.op, _size(gap), _own(gap), _allowed(gap), _share(gap), gap.verdict)
        for gap in gaps[:SHOWN]
    )
    more = len(gaps) - len(rows)
    title = f"{one.spec}: {len(gaps)} of {len(one.layers)} values differ"
    title += f", the first {len(rows)}" if more else ""
    header = ("value", "op", "largest", "own", "allowed", "differ", "verdict")
    return [Table(title, header, rows, right=(2, 3, 4, 5))]


def across_remarks(across: "Across | None") -> list[Remark]:
    """Where the results of each device part."""
    if across is None:
        return []
    return [remark for one in across.devices for remark in _parting(one, across)]


def _parting(one: "AcrossDevice", across: "Across") -> list[Remark]:
    where = one.spec
    said = []
    if one.no_layers:
        said.append(Remark("info", f"{where}: {one.no_layers}"))
    if one.found is not None:
        said.append(_found(one.found, where))
    first = one.first
    if one.verdict == "equal":
        return [*said, Remark("good", f"{where}: bit-equal to {across.reference}")]
    parted = next((gap for gap in one.layers if gap.verdict == "parts"), None)
    if parted is not None:
        text = f"{where}: parts from {across.reference} at {_place(parted)}, by {_size(parted)} "
        return [*said, Remark("bad", f"{text}where {_allowed(parted)} is allowed")]
    if one.verdict == "parts":
        return [*said, Remark("bad", f"{where}: outputs part from {across.reference}")]
    at = f", first at {_place(first)}" if first is not None else ""
    text = f"{where}: within what the facts allow of {across.reference}{at}"
    return [*said, Remark("good", text)]


def _found(found: "Found", where: str) -> Remark:
    sure = "on equal inputs" if found.confirmed else "which a run of its own did not confirm"
    text = f"{where}: the first operator that parts is {_place(found)}, by {_size(found)} {sure} "
    return Remark("info", f"{text}({count(found.runs, 'run')} of shorter artefacts)")


def _place(gap: "Gap | Found") -> str:
    name = f"{gap.op} {short(gap.node or gap.value)}"
    return name if gap.node in {"", gap.value} else f"{name} (value {short(gap.value)})"


def _size(gap: "Gap | Found") -> str:
    return _amount(gap.largest, steps=gap.steps)


def _own(gap: "Gap") -> str:
    return _amount(gap.own, steps=gap.steps)


def _allowed(gap: "Gap") -> str:
    return _amount(gap.allowed, steps=gap.steps)


def _amount(value: float, *, steps: bool) -> str:
    return f"{value:.0f} LSB" if steps else f"{value:.1e}"


def _share(gap: "Gap") -> str:
    return percent(gap.share)
