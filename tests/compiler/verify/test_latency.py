"""Timing under a clock that only moves when a model runs, and under noise that lasts."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from qcompile.compiler.verify.latency import compare_latency, ratio_of_medians


@dataclass
class Time:
    """A clock that only moves when a fake model runs."""

    now: float = 0.0
    log: list[str] = field(default_factory=list)


@dataclass
class Model:
    name: str
    clock: Time
    seconds: Sequence[float]
    """One after the other, the last for ever."""
    runs: int = 0
    input_names: Sequence[str] = ("x",)
    output_names: Sequence[str] = ("y",)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.clock.now += self.seconds[min(self.runs, len(self.seconds) - 1)]
        self.clock.log.append(self.name)
        self.runs += 1
        assert not gc.isenabled()
        return []


FEEDS: dict[str, list[dict[str, np.ndarray]]] = {"float": [{}], "int8": [{}]}


def compare(first: Sequence[float], second: Sequence[float], budget: float = 1.0):  # type: ignore[no-untyped-def]
    clock = Time()
    models = {"float": Model("float", clock, first), "int8": Model("int8", clock, second)}
    result = compare_latency(models, FEEDS, budget=budget, clock=lambda: clock.now)
    assert gc.isenabled()
    return result, clock


def test_medians_and_their_ratio() -> None:
    result, clock = compare([0.004], [0.001])
    a, b = result.timings
    assert (a.name, b.name) == ("float", "int8")
    assert a.median_ms == pytest.approx(4.0)
    assert b.p90_ms == pytest.approx(1.0)
    (ratio,) = result.ratios
    assert ratio.value == pytest.approx(0.25)
    assert (ratio.low, ratio.high) == (pytest.approx(0.25), pytest.approx(0.25))
    assert ratio.verdict == "faster"
    assert clock.now == pytest.approx(1.0, abs=0.01), "the budget is used and held"


def test_slow_first_runs_are_warm_up() -> None:
    result, _ = compare([1.0, 0.5, 0.2, 0.004, 0.004], [0.05, 0.001, 0.001])
    assert result.timings[0].median_ms == pytest.approx(4.0)
    assert result.timings[0].p90_ms == pytest.approx(4.0)


def test_models_take_turns_back_and_forth() -> None:
    _, clock = compare([0.1], [0.1], budget=1.0)
    assert clock.log[:6] == ["float"] * 3 + ["int8"] * 3
    assert clock.log[6:14] == ["float", "int8", "int8", "float"] * 2


def test_a_slow_model_still_gets_seven_rounds() -> None:
    result, _ = compare([3.0], [2.0], budget=1.0)
    assert result.timings[0].runs == 7


def test_equal_models_do_not_differ() -> None:
    rng = np.random.default_rng(5)
    noise = rng.gamma(4.0, 0.0005, (2, 1100))
    result, _ = compare(list(noise[0]), list(noise[1]))
    assert result.ratios[0].verdict == "no difference"


def test_a_machine_that_becomes_slower_does_not_break_the_budget() -> None:
    result, clock = compare([0.001] * 20 + [0.1], [0.001])
    assert clock.now < 1.2
    assert 7 < result.timings[0].runs < 40


def test_a_slower_model_is_called_so() -> None:
    result, _ = compare([0.002], [0.003])
    assert result.ratios[0].verdict == "slower"


def test_feeds_are_taken_in_turn() -> None:
    seen: list[int] = []

    class Watcher:
        input_names = ("x",)
        output_names = ("y",)

        def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
            seen.append(int(feeds["x"]))
            return []

    feeds = [{"x": np.array(i)} for i in range(3)]
    compare_latency({"a": Watcher()}, {"a": feeds}, budget=0.0)
    assert seen[-7:] == [0, 1, 2, 0, 1, 2, 0]


def test_the_interval_is_seeded() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.gamma(9.0, 1.0, (2, 60))
    assert ratio_of_medians("b", a, b) == ratio_of_medians("b", a, b)
    assert ratio_of_medians("b", a, b, seed=1) != ratio_of_medians("b", a, b)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Under noise that lasts (autocorrelated), which a plain bootstrap underrates."""
    rng = np.random.default_rng(3)
    held = 0
    for trial in range(100):
        drift = np.zeros((2, 120))
        for t in range(1, 120):
            drift[:, t] = 0.6 * drift[:, t - 1] + rng.normal(scale=0.02, size=2)
        a, b = np.exp(drift + rng.normal(scale=0.02, size=drift.shape))
        ratio = ratio_of_medians("b", a, 0.8 * b, seed=trial)
        held += ratio.low <= 0.8 <= ratio.high
    assert held >= 85
