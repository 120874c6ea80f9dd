"""TFLite Metadata as an app finds it: read here by the numbers of the published schema alone."""

import io
import struct
import zipfile

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from qcompile.core.app_info import APP_KEY, AppInfo, AppInput
from qcompile.targets.tflite.app_metadata import METADATA_KEY, file_names, metadata, with_files
from qcompile.targets.tflite.lower import lower_with_notes
from qcompile.targets.tflite.read_app_metadata import read_app_metadata
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflite.verifier import verify_flatbuffer
from tests.targets.tflite.lowering import TARGET, parse

INFO = AppInfo(
    {"x": AppInput((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), "rgb")},
    {"y": ("cat", "chien écossais", "")},
)
MODEL = "g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = Relu(x) }"


class Part:
    """A table of a flatbuffer: the vtable says where each field is, by its number."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at

    def _field(self, number: int) -> int:
        vtable = self.at - struct.unpack_from("<i", self.data, self.at)[0]
        size = struct.unpack_from("<H", self.data, vtable)[0]
        slot = 4 + 2 * number
        offset = struct.unpack_from("<H", self.data, vtable + slot)[0] if slot < size else 0
        assert offset, f"field {number} is missing"
        return self.at + offset

    def _follow(self, at: int) -> int:
        return at + struct.unpack_from("<I", self.data, at)[0]

    def byte(self, number: int) -> int:
        return self.data[self._field(number)]

    def part(self, number: int) -> "Part":
        return Part(self.data, self._follow(self._field(number)))

    def text(self, number: int) -> str:
        at = self._follow(self._field(number))
        length = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4 : at + 4 + length].decode()

    def parts(self, number: int) -> list["Part"]:
        at = self._follow(self._field(number))
        count = struct.unpack_from("<I", self.data, at)[0]
        return [Part(self.data, self._follow(at + 4 + 4 * i)) for i in range(count)]

    def floats(self, number: int) -> np.ndarray:
        at = self._follow(self._field(number))
        count = struct.unpack_from("<I", self.data, at)[0]
        return np.frombuffer(self.data, "<f4", count, at + 4)


def lowered(info: AppInfo = INFO) -> bytes:
    model = parse(MODEL)
    model.metadata_props[APP_KEY] = info.to_json()
    return lower_with_notes(model, TARGET).data


def test_an_app_reads_it_unseen() -> None:
    data = lowered()
    block = read_graph(data).metadata[METADATA_KEY]
    assert block[4:8] == b"M001"
    root = Part(block, struct.unpack_from("<I", block)[0])
    assert root.text(7) == "1.0.0"
    (graph,) = root.parts(3)
    (image,), (scores,) = graph.parts(2), graph.parts(3)
    assert (image.text(0), scores.text(0)) == ("x", "y")
    content = image.part(3)
    assert (content.byte(0), content.part(1).byte(0)) == (2, 1), "an image, in RGB"
    (unit,) = image.parts(4)
    assert unit.byte(0) == 1, "normalization"
    assert unit.part(1).floats(0).tolist() == np.float32([123.675, 116.28, 103.53]).tolist()
    assert unit.part(1).floats(1).tolist() == np.float32([58.395, 57.12, 57.375]).tolist()
    (file,) = scores.parts(6)
    assert (file.text(0), file.byte(2)) == ("labels.txt", 2), "labels of an axis"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("labels.txt").decode() == "cat\nchien écossais\n\n"
        (entry,) = archive.infolist()
        assert entry.compress_type == zipfile.ZIP_STORED, "so that it can be mapped"


def test_the_runtime_and_the_verifier_take_it() -> None:
    data = lowered()
    assert verify_flatbuffer(data, runtime=TARGET.min_runtime) == []
    interpreter = Interpreter(model_content=data)
    interpreter.allocate_tensors()
    x = np.float32(np.arange(48) - 20).reshape(1, 4, 4, 3)
    y = interpreter.get_signature_runner("serving_default")(x=x)["y"]
    assert np.array_equal(y, np.maximum(x, 0))


def test_equal_bytes() -> None:
    assert lowered() == lowered()


def test_the_model_itself_does_not_change() -> None:
    plain = lower_with_notes(parse(MODEL), TARGET).data
    assert METADATA_KEY not in read_graph(plain).metadata
    assert not zipfile.is_zipfile(io.BytesIO(plain))
    ours, theirs = read_graph(lowered()), read_graph(plain)
    assert [o.name for o in ours.operators] == [o.name for o in theirs.operators]


def test_what_was_written_is_read_back() -> None:
    data = lowered()
    found = read_app_metadata(data, read_graph(data).metadata)
    assert found is not None
    assert found.class_names == INFO.class_names
    assert found.inputs["x"].color == "rgb"
    assert np.float32(found.inputs["x"].mean).tolist() == np.float32(INFO.inputs["x"].mean).tolist()


def test_no_picture_and_bgr() -> None:
    info = AppInfo({"a": AppInput((0.0,), (255.0,)), "b": AppInput(color="bgr")}, {})
    block = metadata(info, ["a", "b", "c"], ["y"], {"a": 2, "b": 4, "c": 1})
    found = read_app_metadata(b"", {METADATA_KEY: block})
    assert found is not None
    assert {name: made.color for name, made in found.inputs.items()} == {"a": "", "b": "bgr"}


def test_a_file_for_each_of_several_outputs() -> None:
    info = AppInfo({}, {"y": ("a", "b"), "z": ("c",)})
    assert file_names(info) == {"y": "labels_0.txt", "z": "labels_1.txt"}
    data = with_files(b"model", info)
    block = metadata(info, ["x"], ["y", "z"], {})
    assert data.startswith(b"model")
    assert read_app_metadata(data, {METADATA_KEY: block}) == info


@pytest.mark.parametrize("cut", [0, 6, 9, 40, 100])
def test_damaged_metadata_is_none(cut: int) -> None:
    block = metadata(INFO, ["x"], ["y"], {"x": 4})
    assert read_app_metadata(b"", {METADATA_KEY: block[:cut]}) is None
