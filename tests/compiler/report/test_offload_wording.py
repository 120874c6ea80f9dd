"""What leaves the target, in words."""

import json
from dataclasses import replace

from qcompile.compiler.report.json_view import report_json
from qcompile.compiler.report.offload_wording import offload_facts, offload_tables
from qcompile.core.accelerator import Offload, OffNode
from tests.compiler.report.reports import BUILD

FOUND = Offload(
    to="Ethos-U55-128",
    nodes=5,
    on=3,
    partitions=1,
    islands=2,
    off=(
        OffNode("a", "SIN", "Unsupported opType"),
        OffNode("b", "SIN", "Unsupported opType"),
    ),
    off_macs_share=0.25,
    estimates={"cycles": 201184.0, "inferences_per_second": 2485.2, "sram_bytes": 768.0,
               "dram_bytes": 0.0, "flash_bytes": 200704.0, "macs": 3.0},
    source="Vela 5.2.0",
    estimated="nothing was run",
)  # fmt: skip


def test_facts() -> None:
    assert offload_facts(None) == []
    assert offload_facts(FOUND) == [
        ("on target", "3 of 5 nodes on Ethos-U55-128, in 1 piece"),
        ("off target", "2 nodes in 2 islands, 25.0 % of the multiply-adds"),
        ("estimated", "201,184 cycles, 2,485 inferences/s, SRAM 768 B, flash 201 kB"),
        ("", "nothing was run"),
    ]
    whole = replace(FOUND, off=(), islands=0, estimates={})
    assert offload_facts(whole)[1:] == [("off target", "nothing")]


def test_equal_reasons_share_a_row() -> None:
    (table,) = offload_tables(FOUND, floats_listed=True)
    assert table.title == "Off Ethos-U55-128"
    assert table.rows == (("SIN", "2", "Unsupported opType", "a, b"),)
    assert offload_tables(replace(FOUND, off=()), floats_listed=False) == []
    ort = replace(FOUND, to="integer kernels")
    assert offload_tables(ort, floats_listed=True) == [], "the list of float nodes says it"
    assert offload_tables(ort, floats_listed=False) != []


def test_json_holds_all_of_it() -> None:
    view = json.loads(report_json(replace(BUILD, offload=FOUND)))["offload"]
    assert view["estimates"]["cycles"] == 201184
    assert view["off"][0] == {"name": "a", "op": "SIN", "reason": "Unsupported opType"}
    assert view["off_macs_share"] == 0.25


def test_what_it_costs_here_stands_beside() -> None:
    assert offload_facts(FOUND, 0.314)[1] == (
        "off target",
        "2 nodes in 2 islands, 25.0 % of the multiply-adds, 31.4 % of the time here",
    )
