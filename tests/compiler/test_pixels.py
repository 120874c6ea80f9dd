"""Raw bytes in: scale, mean and std are the compiled model's own, the app has nothing to do."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from qcompile.compiler.api import check
from qcompile.core.app_info import APP_KEY, AppInfo
from qcompile.targets.backends import backend_of
from tests.compiler import small

SETTINGS = """
[preprocess]
scale = {scale}
mean = {mean}
std = {std}
"""
TORCHVISION = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
KERAS = {"scale": 1.0, "mean": 127.5, "std": 127.5}


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return small.saved(small.cnn(), tmp_path)


def raw(count: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 8, 8), np.uint8)


def settings(folder: Path, **numbers: object) -> Path:
    path = folder / "settings.toml"
    path.write_text(SETTINGS.format(**numbers))
    return path


def floats(x: np.ndarray, numbers: dict[str, object]) -> np.ndarray:
    mean, std = (np.reshape(numbers[k], (-1, 1, 1)) for k in ("mean", "std"))
    return ((x * numbers["scale"] - mean) / std).astype(np.float32)


def scores(model: Path, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(str(model))
    return np.concatenate([session.run(None, {"x": one[None]})[0] for one in x])


@pytest.mark.parametrize("numbers", [KERAS, TORCHVISION])
@pytest.mark.parametrize("ends", ["uint8", "int8"])
def test_an_app_feeds_bytes(
    cnn: Path, tmp_path: Path, numbers: dict[str, object], ends: str
) -> None:
    config, out = settings(tmp_path, **numbers), tmp_path / "bytes.onnx"
    result = small.built(cnn, data={"x": raw(48)}, ends=ends, config=config, out=out)
    x = raw(16, seed=5)
    fed = x if ends == "uint8" else (x.astype(int) - 128).astype(np.int8)
    got, wanted = scores(out, fed), scores(cnn, floats(x, numbers))
    assert got.dtype == np.dtype(ends)
    end = backend_of("onnxruntime").facts(out).ends["y"]
    error = end.taken(got) - wanted
    assert 10 * np.log10(np.square(wanted).mean() / np.square(error).mean()) > 20
    assert any("takes raw bytes" in str(note) for note in result.report.notes)
    app = AppInfo.from_json({p.key: p.value for p in onnx.load(out).metadata_props}[APP_KEY])
    assert app is not None
    assert app.inputs["x"].mean == ((0.0,) if ends == "uint8" else (128.0,))
    assert app.inputs["x"].std == (1.0,)


def test_check_finds_the_bytes_behind_the_floats(cnn: Path, tmp_path: Path) -> None:
    """Its samples are made by the user's settings, as the float model takes them."""
    config, out = settings(tmp_path, **TORCHVISION), tmp_path / "bytes.onnx"
    data = {"x": raw(48)}
    built = small.built(cnn, data=data, eval_data=data, ends="uint8", config=config, out=out)
    report = check(out, reference=cnn, data=data, config=config, latency=False)
    assert built.report.accuracy is not None
    a, b = (r.accuracy.outputs[0].sqnr_db for r in (built.report, report))
    assert a == b
    assert a is not None
    assert a > 20


def test_a_plan_is_replayed(cnn: Path, tmp_path: Path) -> None:
    config, out = settings(tmp_path, **TORCHVISION), tmp_path / "bytes.onnx"
    small.built(cnn, data={"x": raw(48)}, ends="uint8", config=config, out=out)
    again = small.built(
        cnn, plan=f"{out}.plan.json", ends="uint8", config=config, out=tmp_path / "again.onnx"
    )
    assert again.artefact == out.read_bytes()


def test_samples_that_are_no_bytes_are_quantized_as_floats_were(cnn: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, **KERAS)
    config.write_text(config.read_text() + 'arrays = "ready"\n')
    result = small.built(cnn, data={"x": small.pictures(16)}, ends="uint8", config=config)
    assert any("is not made of bytes" in str(note) for note in result.report.notes)


def test_float_ends_are_as_they_were(cnn: Path, tmp_path: Path) -> None:
    config = settings(tmp_path, **KERAS)
    result = small.built(cnn, data={"x": raw(16)}, config=config)
    assert not any("raw bytes" in str(note) for note in result.report.notes)
    assert "float32" in [spec.dtype for spec in result.report.artefact.inputs]


def test_dynamic_layers_take_bytes_too(cnn: Path, tmp_path: Path) -> None:
    config, out = settings(tmp_path, **KERAS), tmp_path / "dynamic.onnx"
    small.built(
        cnn, data={"x": raw(16)}, ends="uint8", config=config, scheme="w8a8-dynamic", out=out
    )
    got, wanted = scores(out, raw(4)), scores(cnn, floats(raw(4), KERAS))
    assert np.abs(got - wanted).max() <= 0.05 * np.abs(wanted).max()


@pytest.mark.litert
@pytest.mark.parametrize("ends", ["uint8", "int8"])
def test_tflite(cnn: Path, tmp_path: Path, ends: str) -> None:
    config, out = settings(tmp_path, **TORCHVISION), tmp_path / "bytes.tflite"
    data = {"x": raw(48)}
    result = small.built(
        cnn, data=data, eval_data=data, ends=ends, config=config, out=out, target="tflite-x86"
    )
    facts = backend_of("tflite").facts(out)
    assert [spec.dtype for spec in (*facts.inputs, *facts.outputs)] == [ends] * 2
    assert facts.ends["x"].pixels is not None
    assert result.report.accuracy is not None
    assert result.report.accuracy.outputs[0].sqnr_db > 20  # type: ignore[operator]
    session = backend_of("tflite").open(out)
    one = raw(1, seed=5)
    fed = one if ends == "uint8" else (one.astype(int) - 128).astype(np.int8)
    (y,) = session.run({"x": np.ascontiguousarray(fed.transpose(0, 2, 3, 1))})
    error = facts.ends["y"].taken(y) - scores(cnn, floats(one, TORCHVISION))
    assert np.abs(error).max() < 0.1


@pytest.mark.litert
def test_ends_that_nobody_asked_for_are_as_they_were(cnn: Path, tmp_path: Path) -> None:
    """TFLite's default is int8: scales then stay those that other targets have."""
    config = settings(tmp_path, **KERAS)
    result = small.built(cnn, data={"x": raw(16)}, config=config, target="tflite-x86")
    assert [spec.dtype for spec in result.report.artefact.inputs] == ["int8"]
    assert not any("raw bytes" in str(note) for note in result.report.notes)
