"""Every flag reaches the Python API; what cannot be meant is refused before it."""

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args

import pytest

from qcompile.core.schemes import CACHES, SchemeName
from tests.compiler.cli.conftest import FakeApi, Qcompile
from tests.compiler.report.reports import CHECK


def test_a_build_with_nothing_but_names_takes_every_default(
    api: FakeApi, qcompile: Qcompile
) -> None:
    ended = qcompile("build", "m.onnx", "-o", "out.onnx")
    assert ended.code == 0, ended.err
    assert api.calls == [("build", Path("m.onnx"), {"out": Path("out.onnx")})]
    assert "out.onnx" in ended.out
    assert ended.err == "", "nothing on stderr off a terminal"


def test_every_flag_of_build_arrives(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile(
        "build", "a model.onnx", "-t", "ort-arm64", "-d", "mod:samples", "--eval", "eval.npz",
        "-o", "模型 'q'.onnx", "--scheme", "w8a8-dynamic", "--effort", "fast", "--ranges", "mse",
        "--granularity", "tensor", "--io", "uint8", "--shape", "x=1,3,8,8", "--shape", "a=b=2",
        "--plan", "p.json", "--random-data", "--label-file", "l.txt", "--config", "q.toml",
        "--seed", "0", "--threads", "1", "--dump-dir", "dump", "--time-passes", "--no-latency",
        "--time-budget", "5m", "--max-drop", "0", "--max-latency", "0.8x", "--max-size", "2MB",
        "--class-names", "names.txt", "--separate-plans", "--sensitivity",
        "--tokenizer", "llm", "--emit", "genai",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    ((_, model, options),) = api.calls
    assert model == Path("a model.onnx")
    assert options == {
        "target": "ort-arm64",
        "data": "mod:samples",
        "eval_data": "eval.npz",
        "out": Path("模型 'q'.onnx"),
        "scheme": "w8a8-dynamic",
        "effort": "fast",
        "ranges": "mse",
        "granularity": "tensor",
        "ends": "uint8",
        "shapes": {"x": (1, 3, 8, 8), "a=b": (2,)},
        "plan": Path("p.json"),
        "random_data": True,
        "labels": Path("l.txt"),
        "config": Path("q.toml"),
        "seed": 0,
        "threads": 1,
        "dump_dir": Path("dump"),
        "time_passes": True,
        "latency": False,
        "time_budget": "5m",
        "separate_plans": True,
        "class_names": Path("names.txt"),
        "tokenizer": Path("llm"),
        "emit": ("genai",),
        "sensitivity": True,
        "max_drop": 0.0,
        "max_latency": "0.8x",
        "max_size": "2MB",
    }


@pytest.mark.parametrize("shape", ["1,3,8,8", "x=", "x=1,b", "=1,2", "x=0,3", "x=-1", "x=1.5", "x"])
def test_a_shape_that_cannot_be_read(api: FakeApi, qcompile: Qcompile, shape: str) -> None:
    ended = qcompile("build", "m", "-o", "o", "--shape", shape)
    assert (ended.code, ended.out, api.calls) == (2, "", [])
    assert "NAME=1,3,224,224" in ended.err


def test_a_shape_given_twice(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile("build", "m", "-o", "o", "--shape", "x=1", "--shape", "x=2")
    assert (ended.code, "twice" in ended.err, api.calls) == (2, True, [])


@pytest.mark.parametrize("out", ["build/", ""])
def test_an_output_that_names_no_file(api: FakeApi, qcompile: Qcompile, out: str) -> None:
    ended = qcompile("build", "m", "-o", out)
    assert (ended.code, "is not the name of a file" in ended.err, api.calls) == (2, True, [])


@pytest.mark.parametrize(
    "arguments",
    [
        ("build",),
        ("build", "m.onnx"),
        ("build", "m.onnx", "-o", "o", "--threads", "0"),
        ("build", "m.onnx", "-o", "o", "--no-such-flag"),
        ("build", "m.onnx", "n.onnx", "-o", "o"),
        ("check", "a.onnx", "-d", "x"),
        ("check", "a.onnx", "--reference", "m"),
        ("check", "a", "--reference", "m", "-d", "x", "--min-agreement", "97"),
        ("check", "a", "--reference", "m", "-d", "x", "--max-latency-ratio", "0"),
        ("check", "a", "--reference", "m", "-d", "x", "--no-latency", "--max-latency-ratio", "1"),
        ("inspect",),
        ("nonsense",),
        ("--nonsense",),
        (),
    ],
)
def test_usage_errors_end_in_2_and_say_how_to_get_help(
    api: FakeApi, qcompile: Qcompile, arguments: tuple[str, ...]
) -> None:
    ended = qcompile(*arguments)
    assert (ended.code, ended.out, api.calls) == (2, "", [])
    assert "--help" in ended.err


def test_help_names_every_scheme(qcompile: Qcompile) -> None:
    ended = qcompile("build", "--help")
    named = set(re.findall(r"[\w.+-]*\w", ended.out))
    assert {*get_args(SchemeName), *(f"+{cache}" for cache in CACHES)} <= named


def test_json_is_alone_on_stdout_and_holds_measurements(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile("build", "m", "-o", "o", "--json", "-v")
    view = json.loads(ended.out)
    assert view["kind"] == "build"
    assert view["measured"]["latency"]["ratios"][0]["value"] == 0.494
    assert ended.err.startswith("calibrate (2): ")


def test_quiet_prints_nothing(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile("build", "m", "-o", "o", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_a_failed_gate_ends_in_1_after_the_report(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile(
        "check", "a.onnx", "--reference", "m.onnx", "-d", "data", "--min-sqnr", "20",
        "--max-drop", "0", "--min-agreement", "0.97", "--max-latency-ratio", "1.05",
        "--threads", "2", "--max-perplexity", "22.5", "--tokenizer", "llm",
    )  # fmt: skip
    assert ended.code == 1
    assert "FAIL: max-drop" in ended.out
    assert api.calls == [
        (
            "check",
            Path("a.onnx"),
            {
                "reference": Path("m.onnx"),
                "data": "data",
                "min_sqnr": 20.0,
                "max_drop": 0.0,
                "min_agreement": 0.97,
                "max_latency_ratio": 1.05,
                "max_perplexity": 22.5,
                "tokenizer": Path("llm"),
                "threads": 2,
            },
        )
    ]


def test_gates_that_hold_end_in_0(api: FakeApi, qcompile: Qcompile) -> None:
    api.check_report = dataclasses.replace(CHECK, gates=CHECK.gates[:1])
    ended = qcompile("check", "a", "--reference", "m", "-d", "x", "--json")
    assert (ended.code, json.loads(ended.out)["passed"]) == (0, True)


def test_inspect(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile("inspect", "m.onnx", "-t", "ort-arm64")
    assert api.calls == [("inspect", Path("m.onnx"), {"target": "ort-arm64"})]
    assert (ended.code, "tf2onnx" in ended.out) == (0, True)
    assert json.loads(qcompile("inspect", "m.onnx", "--json").out)["kind"] == "inspect"
