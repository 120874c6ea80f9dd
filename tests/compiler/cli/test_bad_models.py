"""Models that cannot be compiled, given to the real command: own message, own code, no trace."""

import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.compiler import small
from tests.compiler.cli.conftest import Qcompile
from tests.house.imports import ROOT

Change = Callable[[onnx.ModelProto], object]


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    small.saved(small.cnn(), tmp_path)
    np.savez("data.npz", x=small.pictures(16))
    return tmp_path


def custom_op(model: onnx.ModelProto) -> None:
    model.opset_import.append(onnx.helper.make_opsetid("org.example", 1))
    model.graph.node[1].op_type, model.graph.node[1].domain = "Swizzle", "org.example"


def misspelt_op(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Rleu"


def cycle(model: onnx.ModelProto) -> None:
    model.graph.node[0].input[0] = "d"


def opset(version: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def reads_nothing(model: onnx.ModelProto) -> None:
    model.graph.node[2].input[0] = "nowhere"


def made_twice(model: onnx.ModelProto) -> None:
    model.graph.node[3].output[0] = "b"


def no_output(model: onnx.ModelProto) -> None:
    del model.graph.output[:]


def integers_only(model: onnx.ModelProto) -> None:
    model.CopyFrom(
        small.text_model("n (int64[4] x) => (int64[4] y) { y = Add (x, x) }", {}, opset=17)
    )


def weights_that_lie_nowhere(model: onnx.ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def weights_outside(model: onnx.ModelProto) -> None:
    weights_that_lie_nowhere(model)
    model.graph.initializer[0].external_data[0].value = "../../etc/passwd"


def weights_too_short(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-8]


MODELS: dict[str, tuple[Change, int, str]] = {
    "an operator of nobody's": (custom_op, 3, "unknown-op"),
    "a misspelt operator": (misspelt_op, 3, "unknown-op"),
    "a circle": (cycle, 3, "model-cyclic"),
    "opset 99": (opset(99), 3, "opset-unsupported"),
    "opset 6": (opset(6), 3, "opset-unsupported"),
    "a value from nowhere": (reads_nothing, 3, "model-invalid"),
    "a value made twice": (made_twice, 3, "model-invalid"),
    "no output": (no_output, 3, "model-invalid"),
    "integers only": (integers_only, 3, "nothing-to-quantize"),
    "external data missing": (weights_that_lie_nowhere, 3, "external-data"),
    "external data elsewhere": (weights_outside, 3, "external-data"),
    "too few weights": (weights_too_short, 3, "model-invalid"),
}


@pytest.mark.parametrize("verb", ["build", "inspect", "check"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_cannot_be_compiled(
    place: Path, qcompile: Qcompile, name: str, verb: str
) -> None:
    change, code, slug = MODELS[name]
    model = onnx.load("model.onnx")
    change(model)
    Path("bad.onnx").write_bytes(model.SerializeToString())
    before = hashes(place)
    arguments: dict[str, tuple[object, ...]] = {
        "build": ("bad.onnx", "-d", "data.npz", "-o", "out.onnx"),
        "inspect": ("bad.onnx",),
        "check": ("model.onnx", "--reference", "bad.onnx", "-d", "data.npz"),
    }
    ended = qcompile(verb, *arguments[verb])
    if verb == "inspect" and slug == "nothing-to-quantize":
        assert ended.code == 0, ended.err
        return
    assert ended.code == code, ended.err
    assert ended.err.startswith(f"error: [{slug}] "), ended.err
    assert len(ended.err.splitlines()[0]) < 400
    assert ended.out == ""
    assert hashes(place) == before


def test_weights_that_do_not_fit_the_input(place: Path, qcompile: Qcompile) -> None:
    """Shape inference cannot say anything, so the runtime does."""
    model = onnx.load("model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5
    onnx.save(model, "model.onnx")
    np.savez("data.npz", x=np.zeros((16, 5, 8, 8), np.float32))
    before = hashes(place)
    ended = qcompile("build", "model.onnx", "-d", "data.npz", "-o", "out.onnx")
    assert ended.code in {3, 4}, ended.err
    assert ended.err.startswith("error: ["), ended.err
    assert "Traceback" not in ended.err
    assert hashes(place) == before


def data_of_type(kind: str) -> Callable[[], None]:
    return lambda: np.savez("data.npz", x=small.pictures(16).astype(kind))


def text_data() -> None:
    np.savez("data.npz", x=np.array(["a"] * 16))


def nan_deep_inside() -> None:
    x = small.pictures(16)
    x[11, 2, 3, 4] = np.nan
    np.savez("data.npz", x=x)


def truncated_data() -> None:
    data = Path("data.npz").read_bytes()
    Path("data.npz").write_bytes(data[: len(data) // 2])


def three_channels_too_many() -> None:
    np.savez("data.npz", x=np.zeros((16, 6, 8, 8), np.float32))


DATA: dict[str, tuple[Callable[[], None], str]] = {
    "text": (text_data, "data-type"),
    "complex": (data_of_type("complex64"), "data-type"),
    "NaN in the twelfth sample": (nan_deep_inside, "data-values"),
    "truncated": (truncated_data, "data-unreadable"),
    "wrong shape": (three_channels_too_many, "data-shape"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_do_not_fit(place: Path, qcompile: Qcompile, name: str) -> None:
    change, slug = DATA[name]
    change()
    before = hashes(place)
    ended = qcompile("build", "model.onnx", "-d", "data.npz", "-o", "out.onnx")
    assert ended.code == 2, ended.err
    assert ended.err.startswith(f"error: [{slug}] "), ended.err
    assert "data.npz" in ended.err
    assert hashes(place) == before


def limited(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("size", [0, 500, 3000])
def test_no_file_can_grow(place: Path, size: int) -> None:
    """A disk that is full from the start, or in the middle, of what a build writes anywhere."""
    before = hashes(place)
    done = subprocess.run(
        [
            *(sys.executable, "-B", "-m", "qcompile.compiler.cli.main", "build", "model.onnx"),
            *("-o", "out.onnx", "--scheme", "w8a8", "--random-data", "--no-latency"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=limited(size),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: [output-unwritable] ")
    assert "Traceback" not in done.stderr
    assert hashes(place) == before
