"""``import`` writes what the compiler sees; flags that say how a model is read reach the API."""

from pathlib import Path

import onnx

from tests.compiler.cli.conftest import FakeApi, Qcompile
from tests.compiler.small import cnn

FLAGS = ("--trust-model", "--signature", "serving")


def test_import_flags_of_build_and_inspect_arrive(api: FakeApi, qcompile: Qcompile) -> None:
    assert qcompile("build", "m.pt2", "-o", "o.onnx", "--requantize", *FLAGS).code == 0
    assert qcompile("inspect", "m.pt2", *FLAGS).code == 0
    (_, _, built), (_, _, inspected) = api.calls
    expected = {"trust_model": True, "signature": "serving"}
    assert built == {"out": Path("o.onnx"), "requantize": True, **expected}
    assert inspected == expected


def test_import_writes_the_graph_and_says_what_is_in_it(tmp_path: Path, qcompile: Qcompile) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "seen.onnx"
    model.write_bytes(cnn().SerializeToString())
    ended = qcompile("import", str(model), "-o", str(out))
    assert ended.code == 0, ended.err
    assert "x: float32" in ended.out and "Conv" in ended.out
    onnx.checker.check_model(str(out), full_check=True)


def test_import_does_not_write_over_the_model(tmp_path: Path, qcompile: Qcompile) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(cnn().SerializeToString())
    ended = qcompile("import", str(model), "-o", str(model))
    assert ended.code == 2 and model.read_bytes() == cnn().SerializeToString()
