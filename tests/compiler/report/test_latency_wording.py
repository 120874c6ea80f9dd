"""What is said of run times: when they can be trusted nothing, else why not."""

from dataclasses import replace

from qcompile.compiler.report.latency import Drift, Instructions, Latency, Ratio, Timing
from qcompile.compiler.report.latency_wording import (
    instruction_line,
    latency_lines,
    latency_remarks,
)

QUIET = Latency(
    timings=(
        Timing(name="float", median_ms=12.34, p90_ms=13.0, runs=50, spread=0.03),
        Timing(name="integer", median_ms=6.1, p90_ms=6.5, runs=50, spread=0.021),
    ),
    ratios=(Ratio(name="integer", value=0.5, low=0.45, high=0.54),),
    threads=1,
    wanted=0.1,
    settled=True,
)


def test_the_lines() -> None:
    ratio, times = latency_lines(QUIET)
    assert ratio == "0.50x of float (0.45 to 0.54): faster; 50 runs, 1 thread"
    assert times == "median 12.3 ms -> 6.10 ms, p90 13.0 ms -> 6.50 ms, spread 3 % -> 2 %"


def test_nothing_is_said_of_times_that_hold() -> None:
    assert latency_remarks(QUIET) == []
    assert latency_remarks(None) == []
    assert latency_remarks(replace(QUIET, wanted=None, settled=None)) == []


def test_which_of_both_ended_the_runs_is_said() -> None:
    (remark,) = latency_remarks(replace(QUIET, wanted=0.02, settled=False))
    assert remark.tone == "info"
    assert "known to 10 %, 2 % was wanted" in remark.text


def test_drift_is_a_warning_with_the_temperatures() -> None:
    drift = Drift(value=1.12, low=1.08, high=1.16)
    warm = replace(QUIET, drift=drift, temperatures=(48.2, 71.6))
    (remark,) = latency_remarks(warm, "ssh:pi")
    assert remark.tone == "warning"
    assert remark.text.startswith("on ssh:pi: the float model became 12 % slower")
    assert "(1.08 to 1.16, 48 to 72 degrees)" in remark.text
    (remark,) = latency_remarks(replace(QUIET, drift=Drift(value=0.9, low=0.88, high=0.95)))
    assert "10 % faster" in remark.text
    assert "degrees" not in remark.text


def test_instructions_are_no_time() -> None:
    found = Instructions(
        label="ARM64 instructions (emulated)", floats=157_300_000, integers=61_440_000
    )
    line = instruction_line(found)
    assert line == ("0.391x of float: 157,300,000 -> 61,440,000 ARM64 instructions (emulated)")
    assert "ms" not in line
