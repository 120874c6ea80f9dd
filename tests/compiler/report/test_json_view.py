"""The JSON of a report: sorted, rounded, without clocks."""

import dataclasses
import json
import math
from typing import Any

import pytest

from qcompile.compiler.report.json_view import report_json, rounded
from qcompile.compiler.report.model import SCHEMA_VERSION, Measured, Report, Step
from tests.compiler.report.reports import BUILD, CHECK, INSPECT


@pytest.mark.parametrize("report", [BUILD, CHECK, INSPECT])
def test_every_report_is_json_with_a_version(report: Report) -> None:
    text = report_json(report)
    view = json.loads(text)
    assert (view["schema_version"], view["kind"]) == (SCHEMA_VERSION, report.kind)
    assert text.endswith("}\n")
    assert "NaN" not in text
    assert "Infinity" not in text


def test_measurements_stay_out_of_the_file() -> None:
    later = dataclasses.replace(BUILD, measured=Measured(steps=(Step(name="x", seconds=9.0),)))
    assert report_json(BUILD) == report_json(later)
    assert "measured" not in json.loads(report_json(BUILD))
    shown = json.loads(report_json(BUILD, measured=True))["measured"]
    assert shown["latency"]["ratios"][0]["value"] == 0.494
    assert shown["latency"]["ratios"][0]["verdict"] == "faster"
    assert shown["tried"][1] == {"name": "[gptq] rounding", "seconds": 4.0}
    assert shown["steps"][0] == {"name": "calibrate", "seconds": 3.21}


def test_keys_are_sorted_at_every_level() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert list(value) == sorted(value)
            for entry in value.values():
                check(entry)
        elif isinstance(value, list):
            for entry in value:
                check(entry)

    check(json.loads(report_json(BUILD, measured=True)))


def test_what_readers_would_work_out_is_there() -> None:
    view = json.loads(report_json(BUILD))
    assert view["fit_to_ship"] is False
    assert view["unfit"] == ["the ranges come from random data"]
    assert view["size_ratio"] == 0.262136
    assert view["coverage"]["integer"] == 28
    assert view["coverage"]["total"] == 32
    assert view["coverage"]["macs_share"] == 0.999667
    assert view["accuracy"]["metrics"][0]["drop_points"] == 4.0
    assert view["accuracy"]["metrics"][1]["drop_high"] == 0.04
    assert view["accuracy"]["own"][1]["drop_points"] == 50.0
    assert view["tried"][0] == {
        "agreement_after": 1.0, "agreement_before": 0.9375, "db_after": 23.5, "db_before": 16.71,
        "kept": True, "step": "bias correction",
    }  # fmt: skip
    assert view["options"] == {"io": "uint8"}
    assert json.loads(report_json(CHECK))["passed"] is False
    assert json.loads(report_json(INSPECT))["op_counts"] == {"Conv": 28, "Tanh": 3}


def test_infinite_is_null_and_identical_says_why() -> None:
    outputs = json.loads(report_json(BUILD))["accuracy"]["outputs"]
    assert (outputs[1]["sqnr_db"], outputs[1]["identical"]) == (None, True)
    assert outputs[0]["sqnr_db"] == 24.2


def test_names_stay_readable() -> None:
    assert "模型" in report_json(BUILD)
    assert json.loads(report_json(BUILD))["model"]["name"] == 'mobile [net] "v1" 模型.onnx'


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.1 + 0.2, 0.3), (1234567.0, 1234570.0), (1e-9 / 3, 3.33333e-10), (math.inf, None)],
)
def test_six_digits(value: float, expected: float | None) -> None:
    assert rounded(value) == expected
    assert rounded(math.nan) is None
