"""Each gate at its limit."""

import pytest

from qcompile.compiler.report.model import Accuracy, Labelled, Latency, OutputQuality, Ratio, Share
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
    timings=(), ratios=(Ratio(name="int8", value=0.55, low=0.5, high=0.6),), threads=1
)


def passed(**limits: float) -> list[bool]:
    return [gate.passed for gate in judge(Limits(**limits), ACCURACY, LATENCY)]


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
    ],
)
def test_each_gate_at_its_limit(name: str, holds: float, fails: float) -> None:
    assert passed(**{name: holds}) == [True]
    assert passed(**{name: fails}) == [False]
    (gate,) = judge(Limits(**{name: fails}), ACCURACY, LATENCY)
    assert gate.name == name.replace("_", "-")
    assert gate.limit == fails


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
        ("max_latency_ratio", "latency"),
    ],
)
def test_a_limit_on_what_was_not_measured_is_a_mistake(name: str, needs: str) -> None:
    bare = Accuracy(data="", samples=1, outputs=())
    for accuracy in (bare, None):
        with pytest.raises(QCompileError, match=needs) as caught:
            judge(Limits(**{name: 1.0}), accuracy, None)
        assert caught.value.code is Code.BAD_OPTION
