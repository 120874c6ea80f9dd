"""What an artefact loses, in points: by the user's metric, labels, classes, or the outputs."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from qcompile.compiler.report.model import Accuracy


def points_lost(found: "Accuracy") -> tuple[float, str]:
    """The points that an artefact loses to the float model, and what a point is.

    With a metric of the user's it is a hundredth of that, of the figure that loses most. With
    labels a point is a hundredth of top-1; for a classifier without labels it is a hundredth
    of the rows that change their class; for any other model it is a hundredth of the energy of
    the outputs (an SQNR of 20 dB loses one point), as a mean over the outputs; for outputs that
    are integers, a hundredth of their elements.

    Returns:
        The points, negative when the artefact won some, and a phrase.
    """
    if found.own:
        worst = max(found.own, key=lambda figure: figure.drop_points)
        return worst.drop_points, worst.metric
    if found.top1 is not None:
        return found.top1.drop_points, "top-1"
    if found.agreement is not None:
        return 100 * (1 - found.agreement.value), "classes that change"
    shares = [10 ** (-o.sqnr_db / 10) for o in found.outputs if o.sqnr_db is not None]
    if shares:
        return 100 * sum(shares) / len(shares), "share of error in the outputs' energy"
    changed = [1 - o.equal for o in found.outputs if o.equal is not None]
    return 100 * sum(changed) / max(len(changed), 1), "output elements that change"
