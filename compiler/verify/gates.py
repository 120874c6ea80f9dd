"""Limits that a check holds an artefact to: what was asked, what was found, did it hold."""

from dataclasses import dataclass, replace

from qcompile.compiler.report.mixed import Gate
from qcompile.compiler.report.model import Accuracy, Latency
from qcompile.core.errors import Code, QCompileError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of ``qcompile check``; None means that nothing was asked."""

    min_sqnr: float | None = None
    """Lowest SQNR in dB that any output may have."""
    max_drop: float | None = None
    """Most points that may be lost to the float model, of each figure of the user's own metric
    where there is one, else of top-1."""
    min_agreement: float | None = None
    """Lowest share of rows in which both models choose the same class, 0 to 1."""
    max_latency_ratio: float | None = None
    """Highest ratio of the artefact's median time to the float model's."""

    @property
    def any(self) -> bool:
        """Whether anything was asked."""
        return any(
            limit is not None
            for limit in (self.min_sqnr, self.max_drop, self.min_agreement, self.max_latency_ratio)
        )


def judge(limits: Limits, accuracy: Accuracy | None, latency: Latency | None) -> tuple[Gate, ...]:
    """Hold the figures against the limits.

    A latency gate fails only when the whole 95 % interval of the ratio lies above the limit: a
    machine that is busy for a moment does not fail a build.

    Raises:
        QCompileError: BAD_OPTION when a limit is asked for a figure that was not measured.
    """
    gates = []
    if limits.min_sqnr is not None:
        sqnr = _measured(accuracy.worst_sqnr_db if accuracy else None, "min-sqnr", "float outputs")
        gates.append(_at_least("min-sqnr", limits.min_sqnr, sqnr))
    if limits.max_drop is not None:
        gates += _drop_gates(limits.max_drop, accuracy)
    if limits.min_agreement is not None:
        share = accuracy.agreement if accuracy else None
        value = _measured(share.value if share else None, "min-agreement", "a classifier")
        gates.append(_at_least("min-agreement", limits.min_agreement, value))
    if limits.max_latency_ratio is not None:
        gates.append(_latency_gate(limits.max_latency_ratio, latency))
    return tuple(gates)


def _drop_gates(limit: float, accuracy: Accuracy | None) -> list[Gate]:
    if accuracy is not None and accuracy.own:
        return [
            replace(_at_most("max-drop", limit, figure.drop_points), remark=figure.metric)
            for figure in accuracy.own
        ]
    top1 = accuracy.top1 if accuracy else None
    needs = "labelled data, or --metric"
    return [
        _at_most(
            "max-drop", limit, _measured(top1.drop_points if top1 else None, "max-drop", needs)
        )
    ]


def _latency_gate(limit: float, latency: Latency | None) -> Gate:
    if latency is None or not latency.ratios:
        raise _not_measured("max-latency-ratio", "latency to be measured")
    ratio = latency.ratios[0]
    return Gate(
        name="max-latency-ratio",
        limit=limit,
        value=ratio.value,
        passed=ratio.low <= limit,
        remark=f"interval {ratio.low:.3f} to {ratio.high:.3f}",
    )


def _at_least(name: str, limit: float, value: float) -> Gate:
    return Gate(name=name, limit=limit, value=value, passed=value >= limit)


def _at_most(name: str, limit: float, value: float) -> Gate:
    # A drop is a difference of two shares: 100 * (0.85 - 0.84) is not exactly 1.
    return Gate(name=name, limit=limit, value=value, passed=value <= limit + 1e-9)


def _measured(value: float | None, option: str, needs: str) -> float:
    if value is None:
        raise _not_measured(option, needs)
    return value


def _not_measured(option: str, needs: str) -> QCompileError:
    return QCompileError(Code.BAD_OPTION, f"--{option} needs {needs}")
