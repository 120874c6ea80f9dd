"""What a person reads of layers, searches and budgets."""

from dataclasses import replace

from qcompile.compiler.report.accuracy import Accuracy, Labelled
from qcompile.compiler.report.mixed import (
    BudgetSearch,
    FloatCost,
    Gate,
    LayerSensitivity,
    Mixed,
    MixedTimes,
)
from qcompile.compiler.report.mixed_wording import mixed_remarks, mixed_tables

LAYERS = (
    LayerSensitivity(
        node="a", op="Conv", gained_db=4.25, alone_db=20.0, macs_share=0.5, weights_share=0.01,
        bytes=2500, points=0.4, best=True,
    ),
    LayerSensitivity(
        node="b", op="Gemm", gained_db=0.5, alone_db=31.0, bytes=-700, points=0.0,
    ),
    LayerSensitivity(node="c", op="Add", gained_db=-0.1, alone_db=40.0),
)  # fmt: skip
SEARCH = BudgetSearch(
    metric="top-1 on 60 samples", float_layers=("a",), drop_before=3.25, drop=0.0,
    size_before=10_000, size=12_500, trials=3,
)  # fmt: skip
PASSED = Gate(name="max-drop", limit=0.5, value=0.0, passed=True, remark="points of top-1")


def test_nothing_was_asked_for() -> None:
    assert mixed_tables(None) == []
    assert mixed_remarks(None, None, None) == []


def test_the_table() -> None:
    (table,) = mixed_tables(Mixed(layers=LAYERS))
    assert table.title == "Sensitivity"
    assert table.header == ("layer", "op", "gain dB", "alone dB", "MACs %", "weights %", "best")
    assert table.rows[0] == ("a", "Conv", "+4.2", "20.0", "50.0", "1.0", "*")
    assert table.rows[2] == ("c", "Add", "-0.1", "40.0", "0.0", "0.0", "")
    (table,) = mixed_tables(Mixed(layers=(replace(LAYERS[0], pattern="first layer"), LAYERS[1])))
    assert table.header[-1] == "part of"
    assert [row[-2:] for row in table.rows] == [("*", "first layer"), ("", "")]
    assert table.right == (2, 3, 4, 5)
    (table,) = mixed_tables(Mixed(layers=LAYERS[:1] * 12))
    assert table.title == "Sensitivity, the first 10 of 12"
    assert len(table.rows) == 10


def test_what_was_done_and_what_else_there_was() -> None:
    times = MixedTimes(costs=(FloatCost(node="b", ms=0.3, low=0.25, high=0.4),))
    said = mixed_remarks(Mixed(layers=LAYERS, search=SEARCH, gates=(PASSED,)), times, None)
    assert [(r.tone, r.text) for r in said] == [
        (
            "info",
            "1 layer left float for the budgets: a; 10.0 kB -> 12.5 kB, 3.25 -> 0.00 points lost "
            "(top-1 on 60 samples)",
        ),
        ("info", "keep b float: +0.00 points, +0.5 dB, -700 B, +0.30 ms (+0.25 to +0.40)"),
        ("good", "pass: max-drop 0.5, measured 0 (points of top-1)"),
    ]


def test_a_budget_that_fails() -> None:
    gate = Gate(name="max-latency", limit=1.5, value=2.0, passed=False)
    (remark,) = mixed_remarks(Mixed(), MixedTimes(gates=(gate,)), None)
    assert (remark.tone, remark.text) == ("bad", "FAIL: max-latency 1.5, measured 2")


def test_a_budget_that_held_on_few_samples_and_not_on_many() -> None:
    top1 = Labelled(metric="top-1", float_value=0.80, artefact_value=0.78, lost=2, won=0)
    judged = Accuracy(data="100 samples of e", samples=100, outputs=(), metrics=(top1,))
    said = mixed_remarks(Mixed(gates=(PASSED,)), None, judged)
    assert said[-1].tone == "warning"
    assert "2.00 points of top-1 are lost on 100 samples of e, more than max-drop 0.5" in (
        said[-1].text
    )
    held = Mixed(gates=(Gate(name="max-drop", limit=2.5, value=0.0, passed=True),))
    assert [r.tone for r in mixed_remarks(held, None, judged)] == ["good"]


def test_a_loss_that_may_be_inside_the_budget_is_no_warning() -> None:
    top1 = Labelled(
        metric="top-1", float_value=0.80, artefact_value=0.78, lost=2, won=0, drop_low=0.4,
        drop_high=5.0,
    )  # fmt: skip
    judged = Accuracy(data="100 samples of e", samples=100, outputs=(), metrics=(top1,))
    said = mixed_remarks(Mixed(gates=(PASSED,)), None, judged)[-1]
    assert (said.tone, said.text) == (
        "info",
        "2.00 points of top-1 are lost on 100 samples of e (95 %: 0.4 to 5), which neither "
        "confirm nor contradict max-drop 0.5",
    )
    sure = replace(judged, metrics=(replace(top1, drop_low=0.6),))
    said = mixed_remarks(Mixed(gates=(PASSED,)), None, sure)[-1]
    assert said.tone == "warning"
    assert "more than max-drop 0.5 (95 %: 0.6 to 5)" in said.text
