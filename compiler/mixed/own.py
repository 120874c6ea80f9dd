"""What a plan loses of the user's own metric, on held-out samples."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.mixed.margins import Estimate
from qcompile.compiler.report.points import worst_figure
from qcompile.compiler.verify.user_metric import Outputs, UserMetric
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.core.parallel import ordered_map

_DIGITS: Final = 9
"""Decimals of a point that count: 100 * (0.85 - 0.84) is not exactly 1, and keeps a budget of 1."""


class OwnLoss:
    """Scores plans by the user's metric; the float model is run and scored once.

    Args:
        metric: the user's.
        reference: the float graph.
        samples: held-out samples; the function is given all of them.
        threads: samples in work at a time; no figure depends on it.
    """

    def __init__(
        self, metric: UserMetric, reference: Session, samples: Dataset, threads: int
    ) -> None:
        self._metric, self._reference = metric, reference
        self._samples, self._threads = samples, threads
        self._floats: Outputs | None = None
        self._before: Mapping[str, np.ndarray] = {}

    @property
    def what(self) -> str:
        """Whose hundredths are counted; known after the first plan was judged."""
        names = ", ".join(self._before)
        return names if len(self._before) == 1 else f"the worst of {names}"

    def lost(self, candidate: Session) -> Estimate:
        """What is lost of the figure that loses most, in hundredths.

        The paired 95 % interval is there where the metric has a score for each sample.

        Args:
            candidate: a plan's graph, whose outputs have the float graph's names.

        Raises:
            QCompileError: BAD_METRIC when the function raises, or returns what is no score.
        """
        if self._floats is None:
            self._floats = self._outputs(self._reference)
            self._before = self._scores(self._floats, self._floats)
        after = self._scores(self._outputs(candidate), self._floats)
        worst = worst_figure(self._metric.compared(self._before, after))
        low, high = worst.drop_low, worst.drop_high
        return Estimate(
            round(worst.drop_points, _DIGITS),
            None if low is None else round(low, _DIGITS),
            None if high is None else round(high, _DIGITS),
        )

    def _outputs(self, session: Session) -> Outputs:
        """What a model says to every sample, in the order of the float model's outputs."""
        names = list(self._reference.output_names)
        order = [session.output_names.index(name) for name in names]
        kept = Outputs(names, len(self._samples))

        def run(index: int) -> None:
            found = session.run(self._samples[index].feeds)
            kept.put(index, [found[i] for i in order])

        ordered_map(run, range(len(self._samples)), self._threads)
        return kept

    def _scores(self, outputs: Outputs, reference: Outputs) -> dict[str, np.ndarray]:
        try:
            return self._metric.scores(outputs, self._samples, reference)
        except QCompileError as error:
            if error.code is not Code.BAD_METRIC:
                raise
            labels = "" if self._samples.has_labels else ", which have no labels here"
            hint = f"--max-drop holds it on held-out calibration samples{labels}"
            raise QCompileError(
                error.code, error.message, hint=f"{error.hint}; {hint}" if error.hint else hint
            ) from error
