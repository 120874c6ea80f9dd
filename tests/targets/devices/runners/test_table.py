"""Which runner a program is, by what it says of itself."""

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.runners.litert_python import LitertPython
from qcompile.targets.devices.runners.runner import Start, Summary
from qcompile.targets.devices.runners.table import runner_of
from tests.targets.devices.runners import recorded


@pytest.mark.parametrize(
    ("file_name", "help_text", "name"),
    [
        ("renamed", recorded.BENCHMARK_HELP, "benchmark_model"),
        ("benchmark_model_plus_flex", "Please specify the name of", "benchmark_model"),
        ("renamed", recorded.PERF_HELP, "onnxruntime_perf_test"),
        ("onnxruntime_perf_test", "", "onnxruntime_perf_test"),
        (
            "benchmark_wrapper",
            "--result_json RESULT_JSON --dispatch_library_path X",
            "benchmark_litert_model.py",
        ),
    ],
)
def test_known(file_name: str, help_text: str, name: str) -> None:
    assert runner_of(file_name, help_text).name == name


def test_unknown() -> None:
    with pytest.raises(QCompileError) as caught:
        runner_of("ls", "Usage: ls [OPTION]... [FILE]...")
    assert caught.value.code is Code.DEVICE_UNFIT
    assert "onnxruntime_perf_test" in str(caught.value.hint)


def test_the_python_tool_of_litert() -> None:
    runner = LitertPython()
    assert runner.summary(recorded.LITERT_PYTHON, "", 1) == Summary(
        0.00221, "median", 5, 0.0024, step=1e-5
    )
    assert runner.summary("Traceback (most recent call last):", "", 1) is None
    argv = runner.argv(Start("/f/runner", "/f/m/model.tflite", 2, "default", 9, 4), "")
    assert argv[1:] == [
        "--model=/f/m/model.tflite",
        "--num_threads=2",
        "--num_runs=9",
        "--warmup_runs=4",
    ]
