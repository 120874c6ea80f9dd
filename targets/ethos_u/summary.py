"""Reads what Vela made of a model: what is left in its file, what it printed, and its estimates."""

import csv
import io
import math
import re
from collections.abc import Mapping
from typing import Final

from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.pieces import count_pieces
from qcompile.targets.tflite.reading import Graph, Operator, read_graph

ETHOS_U: Final = "custom:ethos-u"
"""The operator that Vela puts in the place of those that the NPU runs."""

_WARNING: Final = re.compile(
    r"^Warning \(supported operators\) operator: (?P<op>\S+), ofm: '(?P<name>.*)'\n"
    r"(?P<reason>(?:.*\S.*\n)+)",
    re.MULTILINE,
)
_TENSOR: Final = re.compile(r"(unsupported DataType \w+) \(.*\)$")
_KIB: Final = 1024.0
_COLUMNS: Final[Mapping[str, tuple[str, float]]] = {
    "cycles": ("cycles_total", 1.0),
    "npu_cycles": ("cycles_npu", 1.0),
    "inferences_per_second": ("inferences_per_second", 1.0),
    "sram_bytes": ("sram_memory_used", _KIB),
    "dram_bytes": ("dram_memory_used", _KIB),
    "on_chip_flash_bytes": ("on_chip_flash_memory_used", _KIB),
    "flash_bytes": ("off_chip_flash_memory_used", _KIB),
    "macs": ("nn_macs", 1.0),
}
"""Estimate -> column of the summary, and what one unit of it is."""
NO_REASON: Final = "Vela gives no reason"


def read_offload(before: bytes, after: bytes, printed: str, table: str, name: str) -> Offload:
    """What of a model is on the NPU.

    What runs on the processor is what stands in the compiled file beside the NPU's own operator:
    Vela's count of "CPU operators" also has operators that it took apart for the NPU.

    Args:
        before: the TFLite model that Vela was given.
        after: what it made of it.
        printed: its output, both streams.
        table: its summary, a CSV table of one row.
        name: name and version of Vela.
    """
    source, compiled = read_graph(before), read_graph(after)
    left = [op for op in compiled.operators if op.name != ETHOS_U]
    on_npu = [op for op in compiled.operators if op.name == ETHOS_U]
    reasons = read_reasons(printed)
    row = next(csv.DictReader(io.StringIO(table)))
    estimates = {key: value for key, value in read_estimates(row).items() if on_npu}
    return Offload(
        to=row["accelerator_configuration"].replace("_", "-"),
        nodes=len(source.operators),
        on=max(len(source.operators) - len(left), 0),
        partitions=len(on_npu),
        islands=count_pieces([(op.inputs, op.outputs) for op in left]),
        off=tuple(_off(compiled, op, reasons) for op in left),
        estimates=estimates,
        source=name,
        estimated=_assumptions(row, name, bool(left)) if estimates else "",
    )


def read_reasons(printed: str) -> dict[str, str]:
    """Name of a result -> why its operator is left to the processor, in Vela's own words.

    Without the name of the tensor of a wrong type: many operators have one reason.
    """
    reasons: dict[str, str] = {}
    for found in _WARNING.finditer(printed.replace("\r", "") + "\n"):
        lines = [line.strip() for line in found["reason"].splitlines()]
        lines[0] = _TENSOR.sub(r"\1", lines[0].removeprefix("Reason: "))
        reasons.setdefault(found["name"], ". ".join(lines))
    return reasons


def read_estimates(row: Mapping[str, str]) -> dict[str, float]:
    """The figures of a row of the summary that are figures, memory in bytes."""
    found = {}
    for key, (column, unit) in _COLUMNS.items():
        value = float(row.get(column) or "nan")
        if math.isfinite(value):
            found[key] = value * unit
    return found


def _off(graph: Graph, operator: Operator, reasons: Mapping[str, str]) -> OffNode:
    names = [graph.tensors[i].name for i in operator.outputs]
    reason = next((reasons[name] for name in names if name in reasons), NO_REASON)
    return OffNode(names[0] if names else operator.name, operator.name, reason)


def _assumptions(row: Mapping[str, str], name: str, has_rest: bool) -> str:
    clock = f"{float(row['core_clock']) / 1e6:.0f} MHz"
    where = f"{row['system_config']}, {row['memory_mode']}, {clock}"
    rest = "; what runs on the processor is not in them" if has_rest else ""
    return f"estimates by {name} for {where}: nothing was run{rest}"
