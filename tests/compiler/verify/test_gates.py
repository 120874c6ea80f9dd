"""Each gate at its limit."""

import dataclasses
from typing import Any

import pytest

from qcompile.compiler.budgets import read_latency
from qcompile.compiler.report.accuracy import (
    Accuracy,
    Labelled,
    OutputQuality,
    Perplexity,
    Share,
)
from qcompile.compiler.report.latency import Instructions, Latency, Ratio, Timing
from qcompile.compiler.verify.gates import Limits, judge
from qcompile.core.errors import Code, QCompileError

ACCURACY = Accuracy(
    data="eval",
    samples=100,
    outputs=(
        OutputQuality(name="a", identical=False, sqnr_db=30.0),
        OutputQuality(name="b", identical=False, sqnr_db=20.0),
        OutputQuality(name="n", identical=True, equal=1.0),
    ),
    metrics=(Labelled(metric="top-1", float_value=0.85, artefact_value=0.84, lost=2, won=1),),
    agreement=Share(hits=97, total=100, value=0.97, low=0.91, high=0.99),
)
LATENCY = Latency(
    timings=(
        Timing(name="float", median_ms=20.0, p90_ms=21.0, runs=50, low_ms=19.0, high_ms=21.0),
        Timing(name="int8", median_ms=11.0, p90_ms=13.0, runs=50, low_ms=10.0, high_ms=12.0),
    ),
    ratios=(Ratio(name="int8", value=0.55, low=0.5, high=0.625),),
    threads=1,
)
COUNTED = Instructions(label="ARM64 instructions (emulated)", floats=200, integers=80)


def passed(**limits: Any) -> list[bool]:
    return [gate.passed for gate in judge(Limits(**limits), ACCURACY, LATENCY, COUNTED)]


def test_nothing_asked() -> None:
    assert passed() == []
    assert not Limits().any
    assert Limits(max_drop=0.0).any


@pytest.mark.parametrize(
    ("name", "holds", "fails"),
    [
        ("min_sqnr", 20.0, 20.1),
        ("max_drop", 1.0, 0.99),
        ("min_agreement", 0.97, 0.98),
        ("max_latency_ratio", 0.5, 0.49),
        ("min_speedup", 2.0, 2.01),
        ("max_instructions_ratio", 0.4, 0.39),
    ],
)
def test_each_gate_at_its_limit(name: str, holds: float, fails: float) -> None:
    assert passed(**{name: holds}) == [True]
    assert passed(**{name: fails}) == [False]
    (gate,) = judge(Limits(**{name: fails}), ACCURACY, LATENCY, COUNTED)
    assert gate.name == name.replace("_", "-")
    assert gate.limit == fails


@pytest.mark.parametrize(
    ("text", "holds"), [("10ms", True), ("9.9ms", False), ("50%", True), ("0.49x", False)]
)
def test_a_time_fails_when_all_of_its_interval_is_longer(text: str, holds: bool) -> None:
    """An interval that reaches down to the limit does not fail."""
    limits = Limits(max_latency=read_latency("--max-latency", text))
    (gate,) = judge(limits, ACCURACY, LATENCY)
    assert gate.passed is holds
    assert gate.name == "max-latency"
    assert limits.timed == ("max-latency",)


def test_milliseconds_need_no_float_model() -> None:
    alone = Latency(timings=LATENCY.timings[1:], ratios=(), threads=1)
    limits = Limits(max_latency=read_latency("--max-latency", "11ms"))
    (gate,) = judge(limits, None, alone)
    assert (gate.value, gate.passed) == (11.0, True)


def test_several_gates_are_judged_each() -> None:
    assert passed(min_sqnr=25.0, max_drop=2.0, max_latency_ratio=1.0) == [False, True, True]


def test_not_a_number_never_passes() -> None:
    assert passed(min_sqnr=float("nan"), max_drop=float("nan")) == [False, False]


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("min_sqnr", "float outputs"),
        ("max_drop", "labelled data"),
        ("min_agreement", "classifier"),
        ("max_perplexity", "language model"),
        ("max_latency_ratio", "latency"),
        ("min_speedup", "latency"),
        ("max_instructions_ratio", "emulated device"),
    ],
)
def test_a_limit_on_what_was_not_measured_is_a_mistake(name: str, needs: str) -> None:
    bare = Accuracy(data="", samples=1, outputs=())
    for accuracy in (bare, None):
        with pytest.raises(QCompileError, match=needs) as caught:
            judge(Limits(**{name: 1.0}), accuracy, None)
        assert caught.value.code is Code.BAD_OPTION


@pytest.mark.parametrize(
    ("name", "holds", "fails"),
    [
        ("max_perplexity", 22.5, 22.4),
        ("max_drop", 12.5, 12.4),  # percent of perplexity
        ("min_agreement", 0.97, 0.98),
    ],
)
def test_gates_of_a_language_model(name: str, holds: float, fails: float) -> None:
    text = Perplexity(tokens=100, float_value=20.0, artefact_value=22.5)
    accuracy = dataclasses.replace(ACCURACY, metrics=(), perplexity=text)
    judged = [judge(Limits(**{name: limit}), accuracy, None)[0] for limit in (holds, fails)]
    assert [gate.passed for gate in judged] == [True, False]
    assert judged[0].name == name.replace("_", "-")
