"""What is gathered for an app: normalization from the settings, class names from a file."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import inspect
from qcompile.compiler.app_info import gather_app_info
from qcompile.compiler.config import Config
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.app_info import AppInput
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Signature, TensorSpec
from tests.compiler import small

PICTURE = TensorSpec("x", "float32", ("N", 3, 8, 8))
VECTOR = TensorSpec("v", "float32", (1, 7))
SCORES = TensorSpec("y", "float32", (1, 3))
TORCHVISION = Preprocess(
    resize=256, crop=(8, 8), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def gather(
    preprocess: Preprocess, inputs: tuple[TensorSpec, ...] = (PICTURE,), names: Path | None = None,
    outputs: tuple[TensorSpec, ...] = (SCORES,),
):  # fmt: skip
    return gather_app_info(Config(preprocess=preprocess), Signature(inputs, outputs), names)


def test_settings_that_say_nothing_tell_nothing() -> None:
    assert gather(Preprocess()) is None


def test_the_app_normalizes_as_the_calibration_did() -> None:
    info = gather(TORCHVISION)
    assert info is not None
    made = info.inputs["x"]
    raw = np.arange(256, dtype=np.float64)[None]
    ours = np.stack([(raw[0] - m) / s for m, s in zip(made.mean, made.std, strict=True)])
    assert np.abs(ours - TORCHVISION.table("float64")).max() < 1e-12
    assert (made.color, made.resize, made.filter, made.crop) == ("rgb", (256,), "bilinear", (8, 8))


def test_numbers_for_what_is_no_picture() -> None:
    info = gather(Preprocess(scale=1 / 32768), (VECTOR,))
    assert info is not None
    assert info.inputs == {"v": AppInput((0.0,), (32768.0,))}


def test_which_of_several_inputs() -> None:
    other = TensorSpec("w", "float32", (1, 1, 4, 4))
    assert list(gather(Preprocess(std=2.0), (PICTURE, VECTOR)).inputs) == ["x"]
    assert list(gather(Preprocess(std=2.0, input="w"), (PICTURE, other)).inputs) == ["w"]
    assert gather(Preprocess(std=2.0), (PICTURE, other)) is None


def test_class_names(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_text("\ufeffcat\r\n dog\n\nsheep\n\n")
    with pytest.raises(QCompileError, match="names 4 classes, and no output") as caught:
        gather(Preprocess(), names=path)
    assert caught.value.code is Code.BAD_LABELS
    path.write_text("cat\r\n dog \nsheep\n\n")
    info = gather(Preprocess(), names=path)
    assert info is not None
    assert info.class_names == {"y": ("cat", "dog", "sheep")}
    twice = (SCORES, TensorSpec("z", "float32", (1, 3)))
    with pytest.raises(QCompileError, match="each of the outputs y, z"):
        gather(Preprocess(), names=path, outputs=twice)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    for text, code in ((None, Code.DATA_NOT_FOUND), (b"\n\n", Code.BAD_LABELS),
                       (b"\xff\xfe\x00", Code.DATA_UNREADABLE)):  # fmt: skip
        if text is not None:
            path.write_bytes(text)
        with pytest.raises(QCompileError) as caught:
            gather(Preprocess(), names=path)
        assert caught.value.code is code


@pytest.mark.parametrize(
    ("target", "file"),
    [("ort-arm64", "m.onnx"), pytest.param("tflite-arm64", "m.tflite", marks=pytest.mark.litert)],
)
def test_an_artefact_tells_it_all(target: str, file: str, tmp_path: Path) -> None:
    (tmp_path / "q.toml").write_text(
        '[preprocess]\nmean = [1, 2, 3]\nstd = 2\narrays = "ready"\n[data]\nclass_names = "c.txt"\n'
    )
    (tmp_path / "c.txt").write_text("cat\ndog\nsheep\ngoat\n")
    small.built(
        small.saved(small.cnn(), tmp_path), target=target, data={"x": small.pictures(9)},
        config=tmp_path / "q.toml", out=tmp_path / file, shapes={"x": (1, 3, 8, 8)},
    )  # fmt: skip
    said = [note.message for note in inspect(tmp_path / file).notes]
    assert "input 'x': rgb pictures, (x - [1, 2, 3]) / 2" in said
    assert "output 'y': 4 classes: cat, dog, sheep, ..." in said


def test_the_file_of_names_is_never_written_to(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("a\nb\nc\nd\n")
    with pytest.raises(QCompileError) as caught:
        small.built(
            small.saved(small.cnn(), tmp_path), data={"x": small.pictures(9)},
            class_names=names, out=names,
        )  # fmt: skip
    assert caught.value.code is Code.OUTPUT_IS_INPUT
    assert names.read_text() == "a\nb\nc\nd\n"
