"""The words of a comparison: every difference is in the page, and the marked value is named."""

import json
from dataclasses import replace

import pytest

from qcompile.compiler.report.accuracy import Perplexity
from qcompile.compiler.report.diff_model import DiffReport
from qcompile.compiler.report.diff_page import diff_page
from qcompile.compiler.report.json_view import report_json
from qcompile.compiler.report.wording import page_of
from tests.compiler.report.diffs import ACCURACY, DIFF


def words(report: DiffReport) -> str:
    page = diff_page(report)
    cells = [cell for table in page.tables for row in table.rows for cell in row]
    facts = [f"{label} {text}" for label, text in page.facts]
    return "\n".join([*facts, *cells, *(remark.text for remark in page.remarks)])


@pytest.mark.parametrize(
    "expected",
    [
        "size 2.00 kB -> 1.00 kB (50.0 %)",
        "nodes 1 of 3 become something else",
        "scales 2 of 6 values have another scale or zero point; 1 have the same in another type",
        "corrections 1 bias differ",
        "rounding 1 weight differ",
        "second against first: SQNR 21.2 dB, agreement 85.7 %",
        "asked for",
        "uint8 0.5, 3",
        "int8 0.125 x8, 0",
        "minmax -> mse",
        "> b",
        "the two part at b (Conv): SQNR falls by 20.0 dB there",
        "something is odd",
    ],
)
def test_what_differs_is_said(expected: str) -> None:
    assert expected in words(DIFF)


def test_perplexity_is_said_of_language_models() -> None:
    text = Perplexity(tokens=9, float_value=22.0, artefact_value=23.0)
    accuracy = replace(ACCURACY, perplexity=text)
    assert "perplexity 22.000 -> 23.000" in words(replace(DIFF, accuracy=accuracy))


def test_a_page_of_a_diff_is_found_by_its_kind() -> None:
    assert page_of(DIFF) == diff_page(DIFF)


def test_against_a_reference_the_worse_side_is_named() -> None:
    layer = replace(DIFF.layers[1], first_sqnr_db=15.0, second_sqnr_db=35.0, fall_db=-20.0)
    report = replace(DIFF, reference=DIFF.first.model, layers=(layer,), first_accuracy=ACCURACY)
    assert "the first is 20.0 dB further from float there" in words(report)
    assert "first against reference: SQNR 21.2 dB" in words(report)


def test_models_that_part_nowhere_are_said_to() -> None:
    calm = replace(DIFF, layers=DIFF.layers[:1])
    assert "the two part nowhere by more than 10 dB at once" in words(calm)


def test_nothing_different_is_said_in_one_sentence() -> None:
    twin = replace(DIFF, second=DIFF.first)
    assert twin.same
    assert "nothing that was looked at differs" in words(twin)


def test_long_tables_name_the_rest() -> None:
    many = replace(DIFF, grids=DIFF.grids * 30)
    assert any("20 of 60; --json has all" in table.title for table in diff_page(many).tables)
    assert len(json.loads(report_json(many))["grids"]) == 60


def test_the_end_of_a_long_name_is_shown() -> None:
    layer = replace(DIFF.layers[0], value="block/" * 20 + "relu:0")
    shown = next(t for t in diff_page(replace(DIFF, layers=(layer,))).tables[-1].rows)[0]
    assert shown.startswith("...")
    assert shown.endswith("block/relu:0")
    assert len(shown) == 28


def test_json_has_no_infinity() -> None:
    layer = replace(DIFF.layers[0], sqnr_db=float("inf"), identical=True)
    view = json.loads(report_json(replace(DIFF, layers=(layer,))))
    assert view["layers"][0]["sqnr_db"] is None
    assert view["layers"][0]["identical"]
    assert (view["kind"], view["same"]) == ("diff", False)
