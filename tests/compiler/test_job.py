"""Arguments become a checked job: names are known, what is given wins over the file's defaults."""

from pathlib import Path

import pytest

from qcompile.compiler.api import build, build_for
from qcompile.compiler.budgets import Limit
from qcompile.compiler.job import make_job
from qcompile.core.errors import QCompileError

CONFIG = """
[build]
target = "ort-arm64"
effort = "balanced"
time_budget = "2m"
max_drop = 0.5
max_latency = "0.8x"
max_size = "30%"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "qcompile.toml"
    path.write_text(CONFIG)
    return path


def test_an_unknown_argument_is_a_type_error_as_everywhere_in_python() -> None:
    with pytest.raises(TypeError, match="'skeme'"):
        build("m.onnx", skeme="w8a8")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'target'"):
        build_for("m.onnx", ["ort-arm64"], target="ort-arm64")  # type: ignore[call-arg]


def test_defaults_of_the_file(config: Path) -> None:
    options = make_job("m.onnx", (), None, config=config).options
    assert (options.effort, options.scheme.time_budget) == ("balanced", 120)
    assert (options.max_drop, options.max_size) == (0.5, Limit(0.3, of_float=True))
    assert options.max_latency == Limit(0.8, of_float=True)


def test_what_is_given_wins(config: Path) -> None:
    options = make_job(
        "m.onnx", (), None, config=config, effort="max", time_budget=7, max_drop=0.0,
        max_latency="3ms", max_size="1MB",
    ).options  # fmt: skip
    assert (options.effort, options.scheme.effort, options.scheme.time_budget) == ("max", "max", 7)
    assert (options.max_drop, options.max_latency) == (0.0, Limit(3))
    assert options.max_size == Limit(1e6)


def test_without_either_nothing_is_limited(tmp_path: Path) -> None:
    empty = tmp_path / "qcompile.toml"
    empty.write_text("")
    options = make_job("m.onnx", ("ort-arm64",), None, config=empty).options
    assert (options.scheme.time_budget, options.max_drop) == (None, None)
    assert (options.max_latency, options.max_size) == (None, None)


def test_a_budget_that_cannot_be_read(config: Path) -> None:
    with pytest.raises(QCompileError, match="--max-size"):
        make_job("m.onnx", (), None, config=config, max_size="small")
