"""``benchmark_model``: its command line by version, and what its output of eight years means."""

import numpy as np
import pytest

from qcompile.targets.devices.runners.benchmark_model import BenchmarkModel
from qcompile.targets.devices.runners.runner import Given, Start, Summary
from tests.targets.devices.runners import recorded

RUNNER = BenchmarkModel()
INPUTS = (Given("/f/m/input0", (1, 3)), Given("/f/m/input1", (2,)))
START = Start("/f/runner", "/f/m/model.tflite", 2, "default", 40, 5, INPUTS)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (recorded.BENCHMARK_2018, Summary(0.137722, "mean", 50)),
        (recorded.BENCHMARK_2019, Summary(0.0797609, "mean", 50)),
        (recorded.BENCHMARK_2021, Summary(2.95034, "mean", 50, 3.512391)),
        (recorded.BENCHMARK_2024, Summary(1.239807, "median", 50, 1.357602)),
        (recorded.BENCHMARK_LOGCAT, Summary(0.141253, "median", 25, 0.187533)),
        (recorded.BENCHMARK_ALL_THE_SAME, Summary(12e-6, "mean", 5, 12e-6)),
        (recorded.BENCHMARK_NO_WARM_UP, Summary(43.3333e-6, "mean", 3, 0.0)),
    ],
)
def test_output(printed: str, expected: Summary) -> None:
    found = RUNNER.summary(printed, "", 0)
    assert found is not None
    assert (found.kind, found.runs, found.first) == (expected.kind, expected.runs, expected.first)
    assert found.seconds == pytest.approx(expected.seconds, rel=1e-12)


def test_a_median_of_few_microseconds_says_too_little() -> None:
    """Times of two models of 8 and 8.9 us would be the same."""
    row = "count=9 first=9 curr=8 min=8 max=11 avg={} std=1 p5=8 median={} p95=11\n"
    end = (
        "Inference timings in us: Init: 1, First inference: 2, Warmup (avg): 3, Inference (avg): {}"
    )
    fine = RUNNER.summary((row + end).format("8.91", "8", "8.91"), "", 0)
    coarse = RUNNER.summary((row + end).format("108.91", "100", "108.91"), "", 0)
    assert fine is not None and (fine.kind, fine.seconds) == ("mean", pytest.approx(8.91e-6))
    assert coarse is not None and (coarse.kind, coarse.seconds) == ("median", pytest.approx(1e-4))


def test_output_that_is_cut_short_is_no_time() -> None:
    whole = recorded.BENCHMARK_2024
    assert RUNNER.summary(whole[: whole.index("INFO: Inference timings")], "", 0) is None


def test_command_line_of_a_new_version() -> None:
    assert RUNNER.argv(START, recorded.BENCHMARK_HELP) == [
        "/f/runner",
        "--graph=/f/m/model.tflite",
        "--num_threads=2",
        "--num_runs=40",
        "--warmup_runs=5",
        "--min_secs=0",
        "--warmup_min_secs=0",
        "--use_xnnpack=true",
        "--input_layer=input0,input1",
        "--input_layer_shape=1,3:2",
        "--input_layer_value_files=input0:/f/m/input0,input1:/f/m/input1",
    ]


def test_command_line_of_a_version_without_help() -> None:
    """Options that it may not know are left out: an unknown one would end it."""
    assert RUNNER.argv(START, "") == [
        "/f/runner",
        "--graph=/f/m/model.tflite",
        "--num_threads=2",
        "--num_runs=40",
        "--warmup_runs=5",
    ]


def test_kernels_without_the_delegate() -> None:
    start = Start("r", "m", 1, "builtin", 3, 1)
    assert "--use_xnnpack=false" in RUNNER.argv(start, recorded.BENCHMARK_HELP)


def test_inputs_are_plain_little_endian_bytes() -> None:
    arrays = [np.array([[1.0, -2.0]], ">f4").T, np.array([258], np.int16)]
    files = RUNNER.input_files(["b", "a"], arrays)
    assert list(files) == ["input0", "input1"]
    assert files["input0"] == np.array([1.0, -2.0], "<f4").tobytes()
    assert files["input1"] == b"\x02\x01"


def test_what_a_version_can_do() -> None:
    assert RUNNER.takes_inputs(recorded.BENCHMARK_HELP)
    assert RUNNER.gives_outputs(recorded.BENCHMARK_HELP)
    older = recorded.BENCHMARK_HELP.replace("--output_filepath", "--other")
    assert not RUNNER.gives_outputs(older)
    assert not RUNNER.takes_inputs("")


def test_a_refusal_is_told_in_its_own_words() -> None:
    printed = (
        "INFO: Graph: [m]\nERROR: Encountered unresolved custom op: ethos-u.\nBenchmarking failed."
    )
    assert RUNNER.refused(printed) == "ERROR: Encountered unresolved custom op: ethos-u."
    assert RUNNER.refused("Segmentation fault") == ""
