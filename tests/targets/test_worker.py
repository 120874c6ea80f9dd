"""A child process: answers, refusals, crashes, calls that take too long, and what it prints."""

import ctypes
import os
import time

import numpy as np
import pytest

from qcompile.targets.worker import Worker, WorkerDied, WorkerFailed, serve

HERE = "tests.targets.test_worker"


def twice(x: np.ndarray) -> np.ndarray:
    print("printed by Python", flush=True)
    os.write(1, b"printed below Python\n")
    return 2 * x


def refuse() -> None:
    raise ValueError("not this one")


def crash() -> None:
    ctypes.string_at(0)


def hang() -> None:
    time.sleep(60)


def pid() -> int:
    return os.getpid()


def main() -> None:
    serve({f.__name__: f for f in (twice, refuse, crash, hang, pid)})


def test_answers_come_back_whatever_is_printed() -> None:
    with Worker(HERE, timeout=30) as worker:
        x = np.arange(6, dtype=np.int8).reshape(2, 3)
        assert np.array_equal(worker.call("twice", x), 2 * x)
        assert worker.log() == "printed by Python\nprinted below Python\n"
        assert worker.log() == ""


def test_a_refusal_leaves_the_child_alive() -> None:
    with Worker(HERE, timeout=30) as worker:
        with pytest.raises(WorkerFailed, match="not this one"):
            worker.call("refuse")
        assert worker.call("pid") > 0


def test_a_crash_is_told_by_its_signal() -> None:
    with Worker(HERE, timeout=30) as worker, pytest.raises(WorkerDied, match="signal 11"):
        worker.call("crash")


def test_a_call_that_takes_too_long_ends_the_child() -> None:
    with Worker(HERE, timeout=3) as worker:
        child = worker.call("pid")
        with pytest.raises(WorkerDied, match="longer than 3 s"):
            worker.call("hang")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_nothing_is_left_when_it_is_closed() -> None:
    worker = Worker(HERE, timeout=30)
    child = worker.call("pid")
    worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
