"""What an artefact loses, in points: by the user's metric, labels, classes, or the outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompile.compiler.report.accuracy import Accuracy, OwnFigure


@dataclass(frozen=True)
class Lost:
    """What an artefact loses to the float model, in points."""

    points: float
    """Negative when it won some."""
    what: str
    """What a point is, as a phrase."""
    low: float | None = None
    high: float | None = None
    """The 95 % interval of ``points``; None where there is none."""


def worst_figure(figures: "Sequence[OwnFigure]") -> "OwnFigure":
    """Of the figures of the user's own metric the one that loses most; there is one at least."""
    return max(figures, key=lambda figure: figure.drop_points)


def points_lost(found: "Accuracy") -> Lost:
    """The points that an artefact loses to the float model, and what a point is.

    With a metric of the user's it is a hundredth of that, of the figure that loses most. With
    labels a point is a hundredth of top-1; for a language model it is a percent of perplexity;
    for a classifier without labels it is a hundredth
    of the rows that change their class; for any other model it is a hundredth of the energy of
    the outputs (an SQNR of 20 dB loses one point), as a mean over the outputs; for outputs that
    are integers, a hundredth of their elements.
    """
    if found.own:
        worst = worst_figure(found.own)
        return Lost(worst.drop_points, worst.metric, worst.drop_low, worst.drop_high)
    if found.top1 is not None:
        top1 = found.top1
        return Lost(top1.drop_points, "top-1", top1.drop_low, top1.drop_high)
    if (text := found.perplexity) is not None:
        return Lost(text.rise_percent, "perplexity, in percent", text.rise_low, text.rise_high)
    if (share := found.agreement) is not None:
        points, low, high = (100 * (1 - s) for s in (share.value, share.high, share.low))
        return Lost(points, "classes that change", low, high)
    shares = [10 ** (-o.sqnr_db / 10) for o in found.outputs if o.sqnr_db is not None]
    if shares:
        return Lost(100 * sum(shares) / len(shares), "share of error in the outputs' energy")
    unequal = [1 - o.equal for o in found.outputs if o.equal is not None]
    return Lost(100 * sum(unequal) / max(len(unequal), 1), "output elements that change")
