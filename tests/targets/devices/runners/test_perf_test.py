"""``onnxruntime_perf_test``: its command line, its result file, and its output since 2019."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from qcompile.targets.devices.runners.perf_test import PerfTest
from qcompile.targets.devices.runners.runner import Start, Summary
from tests.targets.devices.runners import recorded

RUNNER = PerfTest()


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (recorded.PERF_2019, Summary(0.0587108, "median", 1000)),
        (recorded.PERF_2020, Summary(0.0838059, "mean", 7160)),
        (recorded.PERF_2022, Summary(0.0841, "median", 10, 0.084)),
        (recorded.PERF_2025, Summary(0.0995086, "median", 5, 0.196)),
    ],
)
def test_output_without_a_result_file(printed: str, expected: Summary) -> None:
    found = RUNNER.summary(printed, "", 3)
    assert found is not None
    assert (found.kind, found.runs, found.first) == (expected.kind, expected.runs, expected.first)
    assert found.seconds == pytest.approx(expected.seconds, rel=1e-12)


@pytest.mark.parametrize("rows", [recorded.PERF_ROWS, recorded.PERF_ROWS_NEWER])
def test_rows_of_the_result_file_are_single_runs(rows: str) -> None:
    """The newer file has the time of the submission before that of the run."""
    found = RUNNER.summary(recorded.PERF_2022, rows, 1)
    assert found == Summary(0.0842, "median", 3, 0.084)


def test_nothing_is_no_time() -> None:
    assert RUNNER.summary("Run failed:there is no test data for model m", "", 0) is None


def test_command_line() -> None:
    start = Start("/f/runner", "/f/m/model.onnx", 4, "default", 20, 5, (), "/f/result")
    plain = ["-e", "cpu", "-m", "times", "-r", "25", "-x", "4", "-s"]
    assert RUNNER.argv(start, recorded.PERF_HELP) == [
        "/f/runner",
        *plain,
        "/f/m/model.onnx",
        "/f/result",
    ]
    start = Start("/f/runner", "/f/m/model.onnx", 4, "builtin", 20, 5, (), "/f/result")
    assert RUNNER.argv(start, "")[9:12] == ["-s", "-o", "0"]


def test_inputs_are_tensor_files_that_bear_their_names() -> None:
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array([7], np.int64)]
    files = RUNNER.input_files(["x", "ids"], arrays)
    assert list(files) == ["test_data_set_0/input_0.pb", "test_data_set_0/input_1.pb"]
    for (name, array), data in zip(
        zip(["x", "ids"], arrays, strict=True), files.values(), strict=True
    ):
        tensor = onnx.TensorProto.FromString(data)
        assert tensor.name == name
        assert np.array_equal(numpy_helper.to_array(tensor), array)


def test_a_refusal_is_told_in_its_own_words() -> None:
    printed = "Load model from /f/m/model.onnx failed:Unsupported model IR version: 13, max is 11"
    assert RUNNER.refused(printed) == printed
    assert RUNNER.refused("Segmentation fault") == ""
