"""Timing under a clock that only moves when a model runs, and under noise that lasts."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from qcompile.compiler.verify.latency import (
    PATIENCE,
    compare_latency,
    drift_of,
    joined,
    ratio_of_medians,
    settle,
    summarize,
)
from qcompile.targets.devices.device import Timed, TimingPlan


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


def timed(a: np.ndarray, b: np.ndarray, *temperatures: float) -> Timed:
    return Timed({"float": a, "int8": b}, {"float": a[:3], "int8": b[:3]}, temperatures)


def test_the_interval_of_a_median_and_the_spread() -> None:
    rng = np.random.default_rng(1)
    found = summarize(timed(rng.normal(2e-3, 1e-4, 400), np.full(400, 1e-3)))
    float_, integer = found.timings
    assert float_.low_ms is not None and float_.high_ms is not None
    assert float_.low_ms < 2.0 < float_.high_ms
    assert float_.high_ms - float_.low_ms < 0.1
    assert float_.spread == pytest.approx(2 * 0.6745 * 0.05, rel=0.2)
    assert (integer.low_ms, integer.high_ms, integer.spread) == pytest.approx((1.0, 1.0, 0.0))
    assert found.settled is None


@dataclass
class Machine:
    """Gives rounds as noisy as told, and counts how often it was asked."""

    noise: float
    clock: Time = field(default_factory=Time)
    calls: int = 0

    def run(self, plan: TimingPlan) -> Timed:
        rng = np.random.default_rng(self.calls)
        self.calls += 1
        self.clock.now += plan.seconds
        factors = np.exp(rng.normal(scale=self.noise, size=(2, 50)))
        return timed(2e-3 * factors[0], 1e-3 * factors[1], 40.0 + self.calls, 50.0 + self.calls)


def settled(noise: float):  # type: ignore[no-untyped-def]
    machine = Machine(noise)
    return settle(machine.run, TimingPlan(1.0), clock=lambda: machine.clock.now), machine


def test_a_quiet_machine_is_asked_once() -> None:
    found, machine = settled(0.001)
    assert machine.calls == 1
    assert found.settled is True
    assert found.precision < 0.02


def test_a_noisy_machine_is_asked_until_time_is_over() -> None:
    found, machine = settled(1.0)
    assert machine.calls == PATIENCE
    assert found.settled is False
    assert found.timings[0].runs == 50 * PATIENCE
    assert found.precision > 0.02
    assert found.temperatures == (41.0, 50.0 + PATIENCE)


def test_more_rounds_settle_what_one_stretch_does_not() -> None:
    found, machine = settled(0.07)
    assert 1 < machine.calls <= PATIENCE
    assert found.settled is True


def test_stretches_are_one_series() -> None:
    one = timed(np.array([1.0, 2.0]), np.array([3.0, 4.0]), 30.0, 31.0)
    two = timed(np.array([5.0]), np.array([6.0]), 32.0, 33.0)
    found = joined(one, two)
    assert found.seconds["int8"].tolist() == [3.0, 4.0, 6.0]
    assert found.temperatures == (30.0, 33.0)
    assert found.warm_up["float"].tolist() == [1.0, 2.0]


def test_a_machine_that_warms_up_is_noticed() -> None:
    rng = np.random.default_rng(0)
    noise = np.exp(rng.normal(scale=0.02, size=90))
    found = drift_of(noise * np.linspace(1.0, 1.2, 90))
    assert found is not None
    assert 1.0 < found.low < found.value < found.high
    assert found.value == pytest.approx(1.13, abs=0.03)


def test_noise_is_no_drift() -> None:
    """Of a hundred still machines with noise that lasts few are told to have moved."""
    rng = np.random.default_rng(2)
    told = 0
    for trial in range(100):
        lasting = np.zeros(120)
        for t in range(1, 120):
            lasting[t] = 0.5 * lasting[t - 1] + rng.normal(scale=0.02)
        told += drift_of(np.exp(lasting), seed=trial) is not None
    assert told <= 5


@pytest.mark.parametrize("rounds", [1, 7, 14])
def test_few_rounds_say_nothing_of_drift(rounds: int) -> None:
    assert drift_of(np.linspace(1.0, 2.0, rounds)) is None


def test_a_change_too_small_to_matter_is_not_told() -> None:
    assert drift_of(np.linspace(1.0, 1.02, 90)) is None
