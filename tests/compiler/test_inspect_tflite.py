"""What ``inspect`` says of a TFLite file."""

from pathlib import Path

import pytest

import qcompile
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

pytestmark = pytest.mark.litert

MODEL = small.DIGITS / "digits.onnx"
OPTIONS = {
    "data": small.DIGITS / "calibration.npz",
    "config": small.DIGITS / "qcompile.toml",
    "latency": False,
}


def test_an_artefact_of_ours(tmp_path: Path) -> None:
    out = tmp_path / "digits.tflite"
    qcompile.build(MODEL, target="tflite-x86", out=out, **OPTIONS)
    report = qcompile.inspect(out)
    assert report.target == "tflite-x86"
    assert report.coverage is not None
    assert report.coverage.integer == report.coverage.total == report.model.nodes
    assert dict(report.op_counts)["CONV_2D"] >= 1
    assert {name for name, _ in report.weight_types} <= {"int8", "int32"}
    remarks = [note.message for note in report.notes]
    assert any("XNNPACK leaves SOFTMAX to the built-in kernels" in text for text in remarks)


def test_the_float_baseline_names_its_float_operators(tmp_path: Path) -> None:
    out = tmp_path / "digits.tflite"
    qcompile.build(MODEL, target="tflite-x86", scheme="float", out=out, latency=False)
    report = qcompile.inspect(out)
    assert report.coverage is not None
    assert report.coverage.integer == 0
    assert len(report.coverage.float_nodes) == report.model.nodes


def test_the_peers_integer_file(models_dir: Path) -> None:
    report = qcompile.inspect(models_dir / "mlperf_tiny" / "resnet8_cifar10_int8_peer.tflite")
    assert report.target == ""
    assert report.coverage is not None
    assert report.coverage.integer == report.coverage.total == 16


@pytest.mark.parametrize(
    ("data", "code"), [(None, Code.MODEL_NOT_FOUND), (b"no model at all", Code.MODEL_INVALID)]
)
def test_what_is_no_model(data: bytes | None, code: Code, tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(QCompileError) as caught:
        qcompile.inspect(path)
    assert caught.value.code is code
