"""Timing in turns with a clock of the test's own."""

from collections.abc import Callable

import pytest

from qcompile.targets.devices.agent_turns import time_in_turns


class Clock:
    """A clock that only the programs move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def program(self, name: str, seconds: Callable[[int], float]) -> Callable[[int], None]:
        runs = 0

        def run(turn: int) -> None:
            nonlocal runs
            self.order.append(name)
            self.now += seconds(runs)
            runs += 1

        return run


def test_rounds_go_back_and_forth() -> None:
    clock = Clock()
    runs = {name: clock.program(name, lambda _: 1.0) for name in ("a", "b", "c")}
    times, warm = time_in_turns(runs, 1.0, (4, 4), clock)
    measured = clock.order[sum(map(len, warm.values())) :]
    assert "".join(measured) == "abccbaabccba"
    assert times == {name: [1.0] * 4 for name in runs}


def test_warm_up_lasts_until_times_no_longer_fall() -> None:
    clock = Clock()
    falling = clock.program("a", lambda run: max(1.0, 8.0 / 2**run))
    times, warm = time_in_turns({"a": falling}, 1000.0, (7, 9), clock)
    assert warm["a"] == [8.0, 4.0, 2.0, 1.0, 1.0]
    assert times["a"] == [1.0] * 9


def test_warm_up_takes_no_more_than_its_share() -> None:
    clock = Clock()
    restless = clock.program("a", lambda run: 1.0 + run % 2)
    _, warm = time_in_turns({"a": restless}, 1.0, (7, 7), clock)
    assert len(warm["a"]) == 3


@pytest.mark.parametrize(("seconds", "rounds"), [(0.0, 7), (20.0, 16), (1e6, 30)])
def test_as_many_rounds_as_the_time_allows(seconds: float, rounds: int) -> None:
    clock = Clock()
    times, _ = time_in_turns({"a": clock.program("a", lambda _: 1.0)}, seconds, (7, 30), clock)
    assert abs(len(times["a"]) - rounds) <= 1
    assert 7 <= len(times["a"]) <= 30


def test_rounds_end_with_the_time_when_the_machine_has_become_slower() -> None:
    clock = Clock()
    slower = clock.program("a", lambda run: 1.0 if run < 4 else 5.0)
    times, _ = time_in_turns({"a": slower}, 60.0, (7, 1000), clock)
    assert len(times["a"]) < 15


def test_every_run_is_a_sign_of_life() -> None:
    clock, signs = Clock(), []
    run = clock.program("a", lambda _: 1.0)
    time_in_turns({"a": run}, 1.0, (7, 7), clock, lambda: signs.append(clock.now))
    assert signs == [float(n) for n in range(1, len(clock.order) + 1)]


def test_inputs_are_taken_in_turn() -> None:
    clock, turns = Clock(), []
    runs = {"a": turns.append}
    time_in_turns(runs, 0.0, (4, 4), clock)
    assert turns[-4:] == [0, 1, 2, 3]
