"""Files that are no models, each refused in its own words."""

import os
from pathlib import Path

import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.reading import LARGEST_MESSAGE, OTHER_FORMATS, read_model_proto
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.build import parse, save

RELU = "g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }"


def refusal(path: Path) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        load_onnx(path)
    assert str(path) in caught.value.message
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "no.onnx").code is Code.MODEL_NOT_FOUND


def test_missing_because_a_parent_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "m.onnx").code is Code.MODEL_UNREADABLE


def test_folder(tmp_path: Path) -> None:
    error = refusal(tmp_path)
    assert error.code is Code.MODEL_UNREADABLE
    assert "folder" in error.message


def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = refusal(tmp_path / "pipe")
    assert error.code is Code.MODEL_UNREADABLE
    assert "regular" in error.message


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(parse(RELU), tmp_path)

    def refuse(self: Path) -> bytes:  # root may read everything, so the mode bits prove nothing
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    error = refusal(path)
    assert error.code is Code.MODEL_UNREADABLE
    assert "Permission denied" in error.message


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    error = refusal(path)
    assert error.code is Code.NOT_A_MODEL
    assert "empty" in error.message


@pytest.mark.parametrize("entry", OTHER_FORMATS, ids=lambda entry: entry[2])
def test_other_formats_are_named(entry: tuple[int, bytes, str], tmp_path: Path) -> None:
    offset, magic, what = entry
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x1c" * offset + magic + b"\0" * 64)
    error = refusal(path)
    assert error.code is Code.NOT_A_MODEL
    assert what in error.message


@pytest.mark.parametrize(
    "data",
    [
        b"This is a letter, not a model.\n",
        b"{}",
        b"\0" * 100,
        b"\xff" * 100,
        bytes(range(256)),
        b"\n",
    ],
    ids=["text", "json", "zeros", "ones", "bytes", "newline"],
)
def test_not_a_model(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    assert refusal(path).code is Code.NOT_A_MODEL


def test_a_model_cut_anywhere_is_truncated_or_invalid(tmp_path: Path) -> None:
    """Never taken for a model, and in the middle of the graph always called truncated."""
    proto = parse(RELU)
    whole = proto.SerializeToString()
    graph = whole.index(proto.graph.SerializeToString())
    path = tmp_path / "m.onnx"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        code = refusal(path).code
        if graph <= length < graph + proto.graph.ByteSize():
            assert code is Code.MODEL_TRUNCATED, length
        else:
            assert code in (Code.MODEL_TRUNCATED, Code.MODEL_INVALID, Code.NOT_A_MODEL), length


def test_over_two_gigabytes_in_one_message(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.touch()
    os.truncate(path, LARGEST_MESSAGE + 1)  # a hole: takes no room
    error = refusal(path)
    assert error.code is Code.MODEL_INVALID
    assert "external data" in str(error.hint)


@pytest.mark.parametrize("name", ["a b.onnx", 'it\'s "it".onnx', "größe-模型.onnx", "m"])
def test_any_file_name_works(name: str, tmp_path: Path) -> None:
    assert read_model_proto(save(parse(RELU), tmp_path, name)).graph.name == "g"


def test_the_file_is_not_touched(tmp_path: Path) -> None:
    path = save(parse(RELU, opset=9), tmp_path)
    before = (path.read_bytes(), path.stat().st_mtime_ns)
    load_onnx(path, {"x": [2, 4]})
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.onnx"]
