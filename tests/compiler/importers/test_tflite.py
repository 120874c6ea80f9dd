"""A .tflite file as the model of a build: what fits, what is told of it, both back ends."""

from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompile
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import load_source, open_source
from qcompile.compiler.importers.tflite import convert_tflite, is_tflite
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

pytestmark = pytest.mark.litert


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float .tflite file of a small network on pictures, whose ends have their channels last."""
    folder = tmp_path_factory.mktemp("tflite")
    onnx.save(small.cnn(), folder / "cnn.onnx")
    out = folder / "cnn.tflite"
    qcompile.build(folder / "cnn.onnx", target="tflite-x86", scheme="float", out=out, latency=False)
    return out


def samples(folder: Path, count: int = 24) -> Path:
    """Data as the .tflite file takes them."""
    path = folder / "samples.npz"
    rng = np.random.default_rng(1)
    np.savez(path, x=rng.standard_normal((count, 8, 8, 3)).astype(np.float32))
    return path


def test_what_fits_is_told_by_content_and_by_name(pictures: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "model.bin"
    renamed.write_bytes(pictures.read_bytes())
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"not a flatbuffer")
    model = tmp_path / "model.onnx"
    onnx.save(small.mlp(), model)
    fits = [is_tflite(str(p)) for p in (pictures, renamed, broken, model, tmp_path, "no/such")]
    assert fits == [True, True, True, False, False, False]


def test_the_file_becomes_an_onnx_model_for_a_while(pictures: Path) -> None:
    with open_source(pictures) as source:
        assert (source.name, source.format) == ("cnn.tflite", "tflite")
        imported = load_source(source)
        assert source.path.is_file()
    assert not source.path.exists()
    assert imported.files == (pictures,)
    assert imported.notes[0].message == "cnn.tflite is a TFLite model of floats"
    (image,) = imported.signature.inputs
    assert (image.name, image.shape) == ("x", (1, 8, 8, 3))


def test_a_damaged_file_leaves_nothing_behind(pictures: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.tflite"
    cut.write_bytes(pictures.read_bytes()[:800])
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(QCompileError) as caught:
        convert_tflite(str(cut), folder, ImportOptions())
    assert caught.value.code is Code.MODEL_INVALID
    assert not list(folder.iterdir())


def test_a_signature_that_is_not_there_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match="serving_default") as caught:
        convert_tflite(str(pictures), tmp_path, ImportOptions(signature="train"))
    assert caught.value.code is Code.BAD_OPTION


@pytest.mark.parametrize(("target", "suffix"), [("tflite-arm64", "tflite"), (small.TARGET, "onnx")])
def test_it_builds_for_both_runtimes(
    pictures: Path, tmp_path: Path, target: str, suffix: str
) -> None:
    data = samples(tmp_path)
    out = tmp_path / f"out.{suffix}"
    result = qcompile.build(
        pictures, target=target, data=data, out=out, latency=False, effort="fast"
    )
    assert out.is_file()
    assert result.report.coverage is not None
    assert result.report.coverage.integer == result.report.coverage.total
    assert any("TFLite model of floats" in note.message for note in result.report.notes)
    if suffix == "tflite":
        assert "TRANSPOSE" not in dict(qcompile.inspect(out).op_counts)
    checked = qcompile.check(out, reference=pictures, data=data, latency=False)
    assert checked.accuracy is not None


def test_inspect_shows_the_file_itself(pictures: Path) -> None:
    assert dict(qcompile.inspect(pictures).op_counts)["CONV_2D"] == 2
