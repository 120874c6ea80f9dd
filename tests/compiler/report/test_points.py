"""Points: the first that applies of labels, classes, outputs."""

from dataclasses import replace

import pytest

from qcompile.compiler.report.accuracy import (
    Accuracy,
    Labelled,
    OutputQuality,
    OwnFigure,
    Perplexity,
    Share,
)
from qcompile.compiler.report.points import points_lost

OUTPUTS = (
    OutputQuality(name="a", identical=False, sqnr_db=20.0),
    OutputQuality(name="b", identical=False, sqnr_db=10.0),
    OutputQuality(name="c", identical=False, equal=0.25),
)
TOP1 = Labelled(metric="top-1", float_value=0.5, artefact_value=0.6, lost=0, won=1)
TEXT = Perplexity(tokens=640, float_value=20.0, artefact_value=20.5, rise_low=2.25, rise_high=3.0)
SHARE = Share(hits=9, total=10, value=0.9, low=0.6, high=1.0)


def found(outputs: tuple[OutputQuality, ...] = OUTPUTS, **more: object) -> Accuracy:
    return Accuracy(data="d", samples=10, outputs=outputs, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("accuracy", "points", "word"),
    [
        (found(metrics=(TOP1,), agreement=SHARE), -10.0, "top-1"),
        (found(agreement=SHARE), 10.0, "classes"),
        (found(agreement=SHARE, perplexity=TEXT), 2.5, "perplexity"),
        (found(), (1.0 + 10.0) / 2, "energy"),
        (found(OUTPUTS[2:]), 75.0, "elements"),
        (found(()), 0.0, "elements"),
        (found((OutputQuality(name="a", identical=True, sqnr_db=float("inf")),)), 0.0, "energy"),
    ],
)
def test_points(accuracy: Accuracy, points: float, word: str) -> None:
    lost = points_lost(accuracy)
    assert lost.points == pytest.approx(points, abs=1e-9)
    assert word in lost.what


def test_intervals_are_those_of_the_figure_that_counts() -> None:
    mild = OwnFigure(metric="m", float_value=1.0, artefact_value=0.99)
    worse = replace(mild, metric="w", artefact_value=0.9, drop_low=4.0, drop_high=16.0)
    top1 = replace(TOP1, drop_low=-20.0, drop_high=0.0)
    share = found(agreement=SHARE)
    for accuracy, low, high in (
        (found(own=(mild, worse), metrics=(top1,)), 4.0, 16.0),
        (found(metrics=(top1,), agreement=SHARE), -20.0, 0.0),
        (share, 0.0, 40.0),
    ):
        lost = points_lost(accuracy)
        assert (lost.low, lost.high) == (pytest.approx(low), pytest.approx(high))
    assert points_lost(found(own=(mild,))).low is None
    assert points_lost(found()).low is None
