"""Limits that a check holds an artefact to: what was asked, what was found, did it hold."""

from dataclasses import dataclass, fields, replace

from qcompile.compiler.budgets import Limit
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.report.latency import Instructions, Latency
from qcompile.compiler.report.mixed import Gate
from qcompile.core.errors import Code, QCompileError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of ``qcompile check``; None means that nothing was asked."""

    min_sqnr: float | None = None
    """Lowest SQNR in dB that any output may have."""
    max_drop: float | None = None
    """Most points that may be lost to the float model, of each figure of the user's own metric
    where there is one, else of top-1; of a language model, percent of its perplexity."""
    min_agreement: float | None = None
    """Lowest share of rows in which both models choose the same class, or of positions at which
    they choose the same next token, 0 to 1."""
    max_perplexity: float | None = None
    """Highest perplexity of a language model."""
    max_latency_ratio: float | None = None
    """Highest ratio of the artefact's median time to the float model's."""
    max_latency: Limit | None = None
    """Longest median time of the artefact, in milliseconds or of the float model's."""
    min_speedup: float | None = None
    """How many times faster than the float model it must be."""
    max_instructions_ratio: float | None = None
    """Most instructions over the float model's, on an emulated device."""

    @property
    def any(self) -> bool:
        """Whether anything was asked."""
        return any(getattr(self, f.name) is not None for f in fields(self))

    @property
    def timed(self) -> tuple[str, ...]:
        """The options asked for that a clock decides."""
        names = ("max_latency_ratio", "max_latency", "min_speedup")
        return tuple(n.replace("_", "-") for n in names if getattr(self, n) is not None)

    @property
    def without_time(self) -> "Limits":
        """The limits that no clock decides."""
        return replace(self, max_latency_ratio=None, max_latency=None, min_speedup=None)


def judge(
    limits: Limits,
    accuracy: Accuracy | None,
    latency: Latency | None,
    instructions: Instructions | None = None,
) -> tuple[Gate, ...]:
    """Hold the figures against the limits.

    A latency gate fails only when the whole 95 % interval lies beyond the limit: a machine that is
    busy for a moment does not fail a build.

    Raises:
        QCompileError: BAD_OPTION when a limit is asked for a figure that was not measured.
    """
    gates = _accuracy_gates(limits, accuracy)
    if limits.timed:
        gates += _latency_gates(limits, latency)
    if limits.max_instructions_ratio is not None:
        if instructions is None:
            raise _not_measured("max-instructions-ratio", "an emulated device that counts them")
        most, name = limits.max_instructions_ratio, "max-instructions-ratio"
        gates.append(replace(_at_most(name, most, instructions.ratio), remark=instructions.label))
    return tuple(gates)


def _accuracy_gates(limits: Limits, accuracy: Accuracy | None) -> list[Gate]:
    gates = []
    if limits.min_sqnr is not None:
        sqnr = _measured(accuracy.worst_sqnr_db if accuracy else None, "min-sqnr", "float outputs")
        gates.append(_at_least("min-sqnr", limits.min_sqnr, sqnr))
    if limits.max_drop is not None:
        gates += _drop_gates(limits.max_drop, accuracy)
    if limits.min_agreement is not None:
        share = accuracy.agreement if accuracy else None
        needs = "a classifier or a language model"
        value = _measured(share.value if share else None, "min-agreement", needs)
        gates.append(_at_least("min-agreement", limits.min_agreement, value))
    if limits.max_perplexity is not None:
        text = accuracy.perplexity if accuracy else None
        needs = "a language model and texts of two tokens or more"
        value = _measured(text.artefact_value if text else None, "max-perplexity", needs)
        gates.append(_at_most("max-perplexity", limits.max_perplexity, value))
    return gates


def _drop_gates(limit: float, accuracy: Accuracy | None) -> list[Gate]:
    if accuracy is not None and accuracy.own:
        return [
            replace(_at_most("max-drop", limit, figure.drop_points), remark=figure.metric)
            for figure in accuracy.own
        ]
    if accuracy is not None and accuracy.perplexity is not None:
        risen = accuracy.perplexity.rise_percent
        return [replace(_at_most("max-drop", limit, risen), remark="perplexity, in percent")]
    top1 = accuracy.top1 if accuracy else None
    needs = "labelled data, or --metric"
    return [
        _at_most(
            "max-drop", limit, _measured(top1.drop_points if top1 else None, "max-drop", needs)
        )
    ]


def _latency_gates(limits: Limits, latency: Latency | None) -> list[Gate]:
    gates = []
    most = limits.max_latency
    if limits.max_latency_ratio is not None:
        ratio = _ratio("max-latency-ratio", latency)
        gates.append(_within("max-latency-ratio", limits.max_latency_ratio, *ratio))
    if most is not None and most.of_float:
        ratio = _ratio("max-latency", latency)
        gates.append(_within("max-latency", most.most, *ratio, unit="of float's, "))
    elif most is not None:
        gates.append(_within("max-latency", most.most, *_milliseconds(latency), unit="ms, "))
    if limits.min_speedup is not None:
        value, low, high = (1 / ratio for ratio in _ratio("min-speedup", latency))
        gates.append(
            Gate(
                name="min-speedup",
                limit=limits.min_speedup,
                value=value,
                passed=low >= limits.min_speedup,
                remark=_interval(high, low),
            )
        )
    return gates


def _ratio(option: str, latency: Latency | None) -> tuple[float, float, float]:
    """The artefact's median time over the float model's, and its interval."""
    if latency is None or not latency.ratios:
        raise _not_measured(option, "latency to be measured")
    ratio = latency.ratios[0]
    return ratio.value, ratio.low, ratio.high


def _milliseconds(latency: Latency | None) -> tuple[float, float, float]:
    """Median time of the artefact, and its interval."""
    if latency is None or not latency.timings:
        raise _not_measured("max-latency", "latency to be measured")
    timing = latency.timings[-1]
    low = timing.median_ms if timing.low_ms is None else timing.low_ms
    high = timing.median_ms if timing.high_ms is None else timing.high_ms
    return timing.median_ms, low, high


def _within(
    name: str, limit: float, value: float, low: float, high: float, *, unit: str = ""
) -> Gate:
    """Fails when even the lower end of the interval is above the limit."""
    remark = unit + _interval(low, high)
    return Gate(name=name, limit=limit, value=value, passed=low <= limit, remark=remark)


def _interval(low: float, high: float) -> str:
    return f"interval {low:.3f} to {high:.3f}"


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
