"""Runs in this process stay on the cores that an agent would choose, and are let go at the end."""

import gc
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from qcompile.compiler.verify import clock
from qcompile.compiler.verify.clock import time_here
from qcompile.compiler.verify.latency import compare_latency
from qcompile.targets.devices.agent_machine import cores, fastest
from qcompile.targets.devices.device import TimingPlan

SHORT = TimingPlan(0.0, rounds=(7, 7))

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot be pinned")


@dataclass
class Watcher:
    """Notes where it runs, and whether garbage would be collected."""

    fails_at: int = -1
    input_names: tuple[str, ...] = ("x",)
    output_names: tuple[str, ...] = ("y",)
    seen: list[tuple[list[int], bool]] = field(default_factory=list)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self.seen.append((cores(), gc.isenabled()))
        if len(self.seen) == self.fails_at:
            raise ValueError("it fails")
        return []


def test_runs_stay_on_one_core_and_the_thread_is_let_go() -> None:
    free, watcher = cores(), Watcher()
    time_here({"a": watcher}, {"a": [{}]}, SHORT)
    assert watcher.seen == [(fastest(1), False)] * len(watcher.seen)
    assert len(watcher.seen) >= 7
    assert cores() == free


def test_a_model_that_fails_leaves_nothing_pinned() -> None:
    free, watcher = cores(), Watcher(fails_at=5)
    with pytest.raises(ValueError, match="it fails"):
        time_here({"a": watcher}, {"a": [{}]}, SHORT)
    assert cores() == free
    assert gc.isenabled()


def test_more_threads_get_more_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(clock, "fastest", lambda count: (asked.append(count), fastest(count))[1])
    compare_latency({"a": Watcher()}, {"a": [{}]}, budget=0.0, threads=2)
    assert asked == [2]


def test_where_pinning_is_forbidden_it_is_timed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forbidden(pid: int, chosen: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setaffinity", forbidden)
    free, watcher = cores(), Watcher()
    timed = time_here({"a": watcher}, {"a": [{}]}, SHORT)
    assert len(timed.seconds["a"]) == 7
    assert watcher.seen[-1][0] == free
