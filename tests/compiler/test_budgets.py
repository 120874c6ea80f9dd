"""Amounts that a user may write, and those that say nothing."""

import pytest

from qcompile.compiler.budgets import Limit, read_latency, read_points, read_seconds, read_size
from qcompile.core.errors import Code, QCompileError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(60, 60), (1.5, 1.5), ("60", 60), ("90s", 90), ("5m", 300), ("2 min", 120), ("1h", 3600)],
)
def test_seconds(text: float | str, seconds: float) -> None:
    assert read_seconds("--time-budget", text) == seconds


@pytest.mark.parametrize(
    ("text", "limit"),
    [("15ms", Limit(15)), ("0.5 s", Limit(500)), ("800us", Limit(0.8)),
     ("0.8x", Limit(0.8, of_float=True)), ("80%", Limit(0.8, of_float=True))],
)  # fmt: skip
def test_latency(text: str, limit: Limit) -> None:
    assert read_latency("--max-latency", text) == limit


@pytest.mark.parametrize(
    ("text", "limit"),
    [("2MB", Limit(2e6)), ("1 MiB", Limit(2**20)), ("500kB", Limit(5e5)), (7000, Limit(7000)),
     ("30%", Limit(0.3, of_float=True)), (".3X", Limit(0.3, of_float=True))],
)  # fmt: skip
def test_size(text: float | str, limit: Limit) -> None:
    assert read_size("--max-size", text) == limit


@pytest.mark.parametrize(
    "text", ["", "x", "-1ms", "0ms", "15", "15m", "1e3ms", "ms", "0.8xx", "1,5ms"]
)
def test_what_is_no_latency(text: str) -> None:
    with pytest.raises(QCompileError, match="--max-latency") as caught:
        read_latency("--max-latency", text)
    assert caught.value.code is Code.BAD_OPTION
    assert "0.8x" in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["nan", "inf", "0", -3, "5 minutes", "30%"])
def test_what_is_no_time(text: float | str) -> None:
    with pytest.raises(QCompileError, match="--time-budget"):
        read_seconds("--time-budget", text)


def test_a_share_of_float_is_held_against_float() -> None:
    assert Limit(0.5, of_float=True).allows(4, 8)
    assert not Limit(0.5, of_float=True).allows(4.1, 8)
    assert Limit(5).allows(5, 1)
    assert not Limit(5).allows(5.1, 100)


def test_points() -> None:
    assert read_points("--max-drop", None) is None
    assert read_points("--max-drop", 0.0) == 0
    for bad in (-0.1, float("nan")):
        with pytest.raises(QCompileError, match="--max-drop"):
            read_points("--max-drop", bad)
