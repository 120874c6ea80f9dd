"""The list of targets, and the operator table of each."""

import json
from pathlib import Path

import pytest

from qcompile.targets.catalog import load_target, target_names
from tests.compiler.cli.conftest import Qcompile


def test_the_list_names_every_target_and_one_default(qcompile: Qcompile) -> None:
    ended = qcompile("targets")
    assert (ended.code, ended.err) == (0, "")
    for name in target_names():
        assert name in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    data = json.loads(qcompile("targets", "--json").out)
    assert [entry["name"] for entry in data] == list(target_names())
    assert sum(entry["default"] for entry in data) <= 1


@pytest.mark.parametrize("name", target_names())
def test_a_target_shows_every_op_and_every_reason(qcompile: Qcompile, name: str) -> None:
    ended = qcompile("targets", name)
    target = load_target(name)
    words = ended.out.split()
    assert ended.code == 0
    assert max(map(len, ended.out.splitlines())) <= 80
    for op, rule in target.ops.items():
        assert op in words
        for kernel in rule.kernels:
            assert kernel in words
    text = " ".join(words)
    for op, reason in target.float_ops.items():
        assert op in words
        assert reason.split()[0] in text
    data = json.loads(qcompile("targets", name, "--json").out)
    assert data["name"] == name
    assert set(data["ops"]) == set(target.ops)


def test_a_target_shows_its_schemes_and_what_they_cost(qcompile: Qcompile) -> None:
    text = " ".join(qcompile("targets", "tflite-x86").out.split())
    named = "w8a8, w8a16, w4a8, w2a8, w8a8-dynamic, w4a8-dynamic, w2a8-dynamic, w8, w4, w2, fp16"
    assert f"schemes {named}" in text
    assert "warning: w8a16: 16-bit activations run without XNNPACK" in text
    data = json.loads(qcompile("targets", "tflite-x86", "--json").out)
    costs = {"w2a8", "w2a8-dynamic", "w4a8", "w8a16", "fp16", "w2", "w4", "w8"}
    assert set(data["costs"]) == costs
    costs = json.loads(qcompile("targets", "ort-arm64", "--json").out)["costs"]
    assert "w8a8-dynamic is the fast form" in costs["w4"]
    assert costs.keys().isdisjoint({"w8a8", "w8a8-dynamic", "float"})


def test_an_unknown_target(qcompile: Qcompile) -> None:
    ended = qcompile("targets", "ort-x86-avx")
    assert (ended.code, ended.out) == (2, "")
    assert "[unknown-target]" in ended.err
    assert "did you mean ort-x86-avx2" in ended.err


def test_a_description_of_ones_own(qcompile: Qcompile, tmp_path: Path) -> None:
    path = tmp_path / "my chip.toml"
    path.write_text('base = "ort-arm64"\nname = "my-chip"\ntitle = "Mine [v2]"\n', encoding="utf-8")
    ended = qcompile("targets", path)
    assert ended.code == 0, ended.err
    assert "Mine [v2]" in ended.out


@pytest.mark.parametrize("name", target_names())
def test_the_operator_table_alone(qcompile: Qcompile, name: str) -> None:
    ended = qcompile("targets", "--ops", name)
    target = load_target(name)
    assert (ended.code, ended.err) == (0, "")
    assert max(map(len, ended.out.splitlines())) <= 80
    assert ended.out.startswith(f"Operators of {name}")
    words = ended.out.split()
    assert all(op in words for op in (*target.ops, *target.float_ops))
    data = json.loads(qcompile("targets", "--ops", name, "--json").out)
    assert set(data) == {"name", "ops", "float_ops", "conditions"}
    assert set(data["ops"]) == set(target.ops)


def test_operators_are_those_of_a_target(qcompile: Qcompile) -> None:
    ended = qcompile("targets", "--ops")
    assert (ended.code, ended.out) == (2, "")
    assert "--ops needs the name of a target" in ended.err
