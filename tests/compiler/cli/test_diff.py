"""``diff`` and ``export`` on the command line: flags arrive, exit codes keep the contract."""

import json
from pathlib import Path

import pytest

from qcompile.core.errors import Exit
from tests.compiler.cli.conftest import FakeApi, Qcompile
from tests.compiler.small import DIGITS, digits


def test_two_names_are_enough(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile("diff", "a.onnx", "b.tflite")
    assert ended.code == Exit.OK, ended.err
    assert api.calls == [("diff", Path("a.onnx"), Path("b.tflite"), {})]
    assert "one.onnx" in ended.out
    assert ended.err == ""


def test_every_flag_of_diff_arrives(api: FakeApi, qcompile: Qcompile) -> None:
    ended = qcompile(
        "diff", "a.onnx", "b.onnx", "-d", "d.npz", "--reference", "f.onnx", "--fall", "3.5",
        "--shape", "x=1,3", "--label-file", "l.txt", "--config", "q.toml", "--threads", "2",
        "--json",
    )  # fmt: skip
    assert ended.code == Exit.OK, ended.err
    (call,) = api.calls
    assert call[-1] == {
        "data": "d.npz",
        "reference": Path("f.onnx"),
        "fall": 3.5,
        "shapes": {"x": (1, 3)},
        "labels": Path("l.txt"),
        "config": Path("q.toml"),
        "threads": 2,
    }
    assert json.loads(ended.out)["kind"] == "diff"


def test_a_difference_fails_only_where_it_is_asked_to(api: FakeApi, qcompile: Qcompile) -> None:
    assert qcompile("diff", "a", "b", "-q").code == Exit.OK
    ended = qcompile("diff", "a", "b", "-q", "--exit-code")
    assert (ended.code, ended.out) == (Exit.GATE, "")


@pytest.mark.parametrize("arguments", [("a",), ("a", "b", "c"), ("a", "b", "--fall", "0")])
def test_what_cannot_be_meant_is_refused(arguments: tuple[str, ...], qcompile: Qcompile) -> None:
    assert qcompile("diff", *arguments).code == Exit.USAGE


def test_encodings_of_a_build_arrive(api: FakeApi, qcompile: Qcompile) -> None:
    assert qcompile("build", "m.onnx", "-o", "o.onnx", "--encodings", "e.json").code == Exit.OK
    assert api.calls[0][-1] == {"out": Path("o.onnx"), "encodings": Path("e.json")}


def test_export_writes_a_file_and_says_what_is_in_it(tmp_path: Path, qcompile: Qcompile) -> None:
    digits(out=tmp_path / "d.onnx")
    command = ("export", tmp_path / "d.onnx", "--reference", DIGITS / "digits.onnx")
    ended = qcompile(*command, "-f", "aimet", "-o", tmp_path / "d.json")
    assert ended.code == Exit.OK, ended.err
    assert "4 values left out" in ended.out
    assert json.loads((tmp_path / "d.json").read_text())["version"] == "1.0.0"
    ended = qcompile(*command, "-f", "aimet", "-o", tmp_path / "p.json", "--prepared", "-q")
    assert (ended.code, ended.out) == (Exit.OK, "")
    assert (tmp_path / "p.json.onnx").is_file()


def test_export_refuses_what_it_does_not_know(tmp_path: Path, qcompile: Qcompile) -> None:
    digits(out=tmp_path / "d.onnx")
    command = ("export", tmp_path / "d.onnx", "--reference", DIGITS / "digits.onnx")
    ended = qcompile(*command, "-f", "onnxruntime", "-o", tmp_path / "x.json")
    assert ended.code == Exit.USAGE
    assert "aimet-2.0.0" in ended.err
    ended = qcompile(*command, "-f", "ort", "-o", tmp_path / "d.onnx")
    assert ended.code == Exit.USAGE
    assert "is the input" in ended.err
