"""Puts into words what of an artefact leaves its target, and what its tool estimates."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from qcompile.compiler.report.page import Table, count, listed, percent, size

if TYPE_CHECKING:
    from qcompile.core.accelerator import Offload

_MEMORY: Final[Mapping[str, str]] = {
    "sram_bytes": "SRAM",
    "dram_bytes": "DRAM",
    "flash_bytes": "flash",
    "on_chip_flash_bytes": "flash on the chip",
    "arena_bytes": "arena",
}


def offload_facts(
    offload: "Offload | None", off_share: float | None = None
) -> list[tuple[str, str]]:
    """How much runs where the target wants it, what leaves it, what the tool estimates.

    ``off_share``: of the time here that what leaves it takes.
    """
    if offload is None:
        return []
    where = f"{offload.to}, in {count(offload.partitions, 'piece')}"
    facts = [("on target", f"{offload.on} of {count(offload.nodes, 'node')} on {where}")]
    spent = "" if off_share is None else f", {percent(off_share)} of the time here"
    facts.append(("off target", _off(offload) + spent))
    figures = [*_speed(offload.estimates), *_memory(offload.estimates)]
    if figures:
        facts += [("estimated", ", ".join(figures)), ("", offload.estimated)]
    return facts


def offload_tables(offload: "Offload | None", *, floats_listed: bool) -> list[Table]:
    """The nodes that leave the target, one row for each op and reason.

    ``floats_listed``: whether the report has a list of float nodes, which says as much where
    nothing but those leaves the target.
    """
    if offload is None or (floats_listed and offload.to == "integer kernels"):
        return []
    groups: dict[tuple[str, str], list[str]] = {}
    for node in offload.off:
        groups.setdefault((node.op, node.reason), []).append(node.name)
    rows = tuple(
        (op, str(len(names)), reason, listed(names, limit=2))
        for (op, reason), names in groups.items()
    )
    header = ("op", "nodes", f"why ({offload.source})", "which")
    return [Table(f"Off {offload.to}", header, rows, right=(1,))] if rows else []


def _off(offload: "Offload") -> str:
    if not offload.off:
        return "nothing"
    text = f"{count(len(offload.off), 'node')} in {count(offload.islands, 'island')}"
    share = offload.off_macs_share
    return text if share is None else f"{text}, {percent(share)} of the multiply-adds"


def _speed(estimates: Mapping[str, float]) -> Sequence[str]:
    words = []
    if "cycles" in estimates:
        words.append(f"{estimates['cycles']:,.0f} cycles")
    if "inferences_per_second" in estimates:
        words.append(f"{estimates['inferences_per_second']:,.4g} inferences/s")
    return words


def _memory(estimates: Mapping[str, float]) -> Sequence[str]:
    used = ((name, estimates.get(key, 0.0)) for key, name in _MEMORY.items())
    return [f"{name} {size(round(number))}" for name, number in used if number > 0]
