"""Records of the report on run times: of each model, against the first, and whether they hold."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Timing:
    """Run times of one model."""

    name: str
    median_ms: float
    p90_ms: float
    runs: int
    low_ms: float | None = None
    high_ms: float | None = None
    """The 95 % interval of the median."""
    spread: float | None = None
    """Distance of the quartiles over the median: the middle half of the runs lies within it."""


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Median time of a model over that of the first one, with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """``faster``, ``slower``, or ``no difference`` when the interval comes within 1 % of 1.

        Two loads of one and the same model differ by up to 0.5 %: memory lies differently.
        """
        if self.low <= 1.01 and self.high >= 0.99:
            return "no difference"
        return "faster" if self.high < 1.0 else "slower"

    @property
    def precision(self) -> float:
        """The farther end of the interval from the value, as a share of it."""
        return max(self.value - self.low, self.high - self.value) / self.value


@dataclass(frozen=True, kw_only=True)
class Drift:
    """The machine became slower or faster while it was timed."""

    value: float
    """Median time of the first model in the last third of the rounds over that in the first."""
    low: float
    high: float
    """The 95 % interval."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Run times of models on the same machine in one interleaved series."""

    timings: tuple[Timing, ...]
    """The first one (float) is what the others are compared with."""
    ratios: tuple[Ratio, ...]
    """One for every timing but the first."""
    threads: int
    wanted: float | None = None
    """Runs went on until every ratio was this precise (a share of it), or time was over."""
    settled: bool | None = None
    """Whether that was reached; None where nothing was wanted."""
    drift: Drift | None = None
    """None where nothing moved beyond the noise."""
    temperatures: tuple[float, ...] = ()
    """Degrees Celsius before and after, where they can be read."""
    each: str = ""
    """What stands for a run where the device tells no single ones."""

    @property
    def precision(self) -> float:
        """Of the least precise ratio; 0 without ratios."""
        return max((ratio.precision for ratio in self.ratios), default=0.0)


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """Instructions of one inference on an emulated machine. They are no time."""

    label: str
    """What was counted: ``ARM64 instructions (emulated)``."""
    floats: int
    integers: int

    @property
    def ratio(self) -> float:
        """Those of the artefact over those of the float model."""
        return self.integers / self.floats
