"""Which samples a build takes for what."""

import dataclasses

import numpy as np
import pytest

from qcompile.compiler.config import Config
from qcompile.compiler.data.options import DataSpec
from qcompile.compiler.samples import (
    RANDOM_SAMPLES,
    FeedsOf,
    Remembered,
    Samples,
    choose_samples,
)
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    (TensorSpec("x", "float32", ("N", 4)),), (TensorSpec("y", "float32", ("N", 2)),)
)


def numbered(count: int, start: int = 0) -> dict[str, np.ndarray]:
    """Samples whose first number says which one it is."""
    x = np.arange(start, start + count, dtype=np.float32)[:, None] + np.float32([0, 0.1, 0.2, 0.3])
    return {"x": x}


def choose(
    data: DataSpec | None = None, eval_data: DataSpec | None = None, **options: object
) -> Samples:
    given = {"needed": True, "random": False, "seed": 0, **options}
    return choose_samples(SIGNATURE, Config(), data, eval_data, **given)  # type: ignore[arg-type]


def numbers(feeds: object) -> list[int]:
    return [round(float(feed["x"].reshape(-1)[0])) for feed in feeds]  # type: ignore[attr-defined]


def test_a_fifth_is_held_out_and_no_sample_serves_for_both() -> None:
    samples = choose(numbered(40))
    assert samples.calibration is not None
    assert samples.judged is not None
    first, second = numbers(FeedsOf(samples.calibration)), numbers(FeedsOf(samples.judged))
    assert (len(first), len(second)) == (32, 8)
    assert sorted(first + second) == list(range(40))
    assert samples.described.startswith("32 of 40 samples of ")
    assert samples.judged_described == "held out: 8 of 40"


def test_the_order_is_mixed_the_same_each_time_and_another_with_another_seed() -> None:
    once, again, other = (
        numbers(FeedsOf(choose(numbered(40), seed=seed).calibration))  # type: ignore[arg-type]
        for seed in (0, 0, 1)
    )
    assert once == again
    assert once != sorted(once)
    assert other != once


def test_a_first_part_stands_for_the_whole() -> None:
    """Sorted sets (class by class) must not give a first half of the classes."""
    order = numbers(FeedsOf(choose(numbered(400)).calibration))  # type: ignore[arg-type]
    assert abs(np.mean(order[:64]) - 200) < 40


def test_a_set_to_judge_on_leaves_the_other_whole() -> None:
    samples = choose(numbered(20), numbered(5, start=100))
    assert samples.calibration is not None
    assert samples.judged is not None
    assert sorted(numbers(FeedsOf(samples.calibration))) == list(range(20))
    assert numbers(FeedsOf(samples.judged)) == [100, 101, 102, 103, 104]


@pytest.mark.parametrize("count", [1, 7])
def test_too_few_to_hold_some_out(count: int) -> None:
    samples = choose(numbered(count))
    assert samples.calibration is not None
    assert len(samples.calibration) == count
    assert samples.judged is None
    assert "--eval" in samples.judged_described


def test_none_are_needed() -> None:
    samples = choose(needed=False)
    assert (samples.calibration, samples.judged) == (None, None)
    assert samples.described.startswith("none")
    judged = choose(None, numbered(3), needed=False)
    assert judged.judged is not None
    assert judged.judged_described.startswith("3 samples")


def test_all_is_judged_where_nothing_rests_on_the_samples() -> None:
    samples = choose(numbered(20), needed=False, calibrates=False)
    assert samples.judged is not None
    assert sorted(numbers(FeedsOf(samples.judged))) == list(range(20))
    assert samples.judged_described == "20 samples of data"
    assert samples.calibration is samples.judged  # the remarks on the set are about all of it
    replayed = choose(numbered(20), needed=False)  # the plan's ranges may come from the same set
    assert replayed.judged is not None
    assert len(replayed.judged) == 4


def test_some_are_needed() -> None:
    with pytest.raises(QCompileError) as caught:
        choose()
    assert caught.value.code is Code.NO_DATA
    with pytest.raises(QCompileError):
        choose(None, numbered(20))


def test_noise_on_request_only_and_only_without_data() -> None:
    samples = choose(random=True)
    assert samples.is_random
    assert samples.calibration is not None
    assert len(samples.calibration) == RANDOM_SAMPLES
    assert samples.judged is None
    assert not choose(numbered(20), random=True).is_random
    judged = choose(None, numbered(3), random=True)
    assert judged.is_random
    assert judged.judged is not None


def test_noise_that_a_decision_rests_on_is_named() -> None:
    assert choose(random=True, needed=False).described == f"{RANDOM_SAMPLES} samples of noise"
    assert choose(random=True, needed=False, calibrates=False).described.startswith("none")


def test_feeds_are_read_when_asked_for() -> None:
    read: list[int] = []

    class Counting:
        name, has_labels = "counting", False

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: int) -> object:
            read.append(index)
            return dataclasses.make_dataclass("Sample", ["feeds"])({"x": np.float32([index])})

    feeds = FeedsOf(Counting())  # type: ignore[arg-type]
    assert len(feeds) == 10
    assert read == []
    assert feeds[3]["x"] == 3
    assert [f["x"] for f in feeds[1:7:2]] == [1, 3, 5]
    assert read == [3, 1, 3, 5]


def test_remembered_feeds_are_read_once_until_forgotten() -> None:
    read: list[int] = []

    class Counted(list):  # type: ignore[type-arg]
        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            read.append(index)
            return super().__getitem__(index)

    feeds = Remembered(Counted({"x": np.array([i])} for i in range(4)), 2)
    assert [int(feed["x"][0]) for feed in (*feeds[:], *feeds[1:3])] == [0, 1, 2, 3, 1, 2]
    assert read == [0, 1, 2, 3, 2], "only the first two are kept"
    feeds.forget()
    assert (int(feeds[0]["x"][0]), int(feeds[0]["x"][0])) == (0, 0)
    assert read[-2:] == [0, 0]


def test_remembered_feeds_may_leave_out_the_last() -> None:
    feeds = Remembered([{"x": np.array([i])} for i in range(4)], 2, 3)
    assert len(feeds) == 3
    assert [int(feed["x"][0]) for feed in feeds] == [0, 1, 2]
