"""Keras models and SavedModels through the front: outputs, names, signatures, refusals."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from qcompile.compiler.importers.keras import fits_archive, fits_hdf5, fits_saved_model
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import load_source, open_source
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.keras_files import archive, layer, model, touching

needs_tensorflow = [pytest.mark.tensorflow, pytest.mark.slow]


def run(given: Path, feeds: Mapping[str, np.ndarray], **options: object) -> dict[str, np.ndarray]:
    """Convert and run; what is left of the conversion is looked at by ``load_source``."""
    with open_source(given, ImportOptions(**options)) as source:  # type: ignore[arg-type]
        load_source(source)
        session = onnxruntime.InferenceSession(source.path)
        names = [value.name for value in session.get_outputs()]
        return dict(zip(names, session.run(None, dict(feeds)), strict=True))


def refused(given: Path, **options: object) -> QCompileError:
    with (
        pytest.raises(QCompileError) as caught,
        open_source(given, ImportOptions(**options)),  # type: ignore[arg-type]
    ):
        pass
    return caught.value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    command = [sys.executable, "-m", "tests.compiler.importers.keras_make", str(folder)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_HOME": str(folder / "home"), "KERAS_BACKEND": "tensorflow"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_what_is_taken_for_what(tmp_path: Path) -> None:
    (tmp_path / "a.keras").write_bytes(b"PK\x03\x04")
    (tmp_path / "b.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "c.h5").write_bytes(b"")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    assert [fits_archive(str(tmp_path / f"{n}")) for n in ("a.keras", "b.keras", "saved")] == [
        True,
        False,
        False,
    ]
    assert [fits_hdf5(str(tmp_path / n)) for n in ("a.keras", "b.keras", "c.h5", "saved")] == [
        False,
        True,
        True,
        False,
    ]
    assert fits_saved_model(str(tmp_path / "saved"))
    assert fits_saved_model(str(tmp_path / "saved" / "saved_model.pb"))
    assert not fits_saved_model(str(tmp_path))


class TestWithTensorFlow:
    pytestmark = needs_tensorflow

    def test_an_archive(self, made: Path) -> None:
        data = np.load(made / "net.npz")
        got = run(made / "net.keras", {name: data[name] for name in ("image", "series")})
        assert set(got) == {"total", "rest"}
        for name, value in got.items():
            np.testing.assert_allclose(value, data[name], atol=1e-6)

    def test_dimensions_have_names(self, made: Path) -> None:
        with open_source(made / "net.keras") as source:
            graph = load_source(source).model.graph
            shapes = {value.name: [str(d) for d in value.shape or ()] for value in graph.inputs}
        assert shapes["image"] == ["batch", "image_1", "image_2", "4"]
        assert shapes["series"] == ["batch", "6", "3"]

    def test_hdf5_and_an_export_of_the_same(self, made: Path) -> None:
        data = np.load(made / "plain.npz")
        for name in ("plain.h5", "exported"):
            with open_source(made / name) as source:
                session = onnxruntime.InferenceSession(source.path)
                (only,) = session.get_inputs()
                (got,) = session.run(None, {only.name: data["x"]})
            np.testing.assert_allclose(got, data["y"], atol=1e-6)

    @pytest.mark.parametrize("name", ["double", "fake"])
    def test_a_signature_is_chosen(self, name: str, made: Path) -> None:
        data = np.load(made / "two.npz")
        got = run(made / "two", {"a": data["x"]}, signature=name)
        (value,) = got.values()
        np.testing.assert_allclose(value, data[name], atol=1e-6)

    @pytest.mark.parametrize("name", [None, "third"])
    def test_signatures_are_listed(self, name: str | None, made: Path) -> None:
        error = refused(made / "two", signature=name)
        assert error.code is Code.BAD_OPTION
        assert "double, fake" in f"{error.message} {error.hint}"

    def test_a_saved_model_that_writes_a_file(self, made: Path) -> None:
        error = refused(made / "writer")
        assert error.code is Code.UNTRUSTED_MODEL
        assert "WriteFile" in error.message
        assert not (made / "canary").exists()

    def test_a_lambda_in_hdf5_is_refused_before_it_runs(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py", reason="no TensorFlow")
        canary, path = tmp_path / "canary", tmp_path / "m.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(model(touching(canary)))
        error = refused(path)
        assert (error.code, error.node) == (Code.UNTRUSTED_MODEL, "culprit")
        assert not canary.exists()

    def test_that_lambdas_code_is_alive(self, tmp_path: Path) -> None:
        """Trusted, the file that the other tests refuse does make its canary."""
        h5py = pytest.importorskip("h5py", reason="no TensorFlow")
        canary, weights = tmp_path / "canary", tmp_path / "w.h5"
        with h5py.File(weights, "w"):
            pass
        members = {"model.weights.h5": weights.read_bytes()}
        path = archive(tmp_path / "m.keras", model(touching(canary)), members)
        run(path, {"data": np.zeros((1, 4), np.float32)}, trust=True)
        assert canary.exists()

    def test_layers_that_keras_does_not_know(self, tmp_path: Path) -> None:
        h5py = pytest.importorskip("h5py", reason="no TensorFlow")
        path = tmp_path / "m.h5"
        with h5py.File(path, "w") as file:
            file.attrs["model_config"] = json.dumps(model(layer("Mine", module=None)))
        error = refused(path)
        assert error.code is Code.IMPORT_FAILED
        assert "SavedModel" in (error.hint or "")

    def test_weights_alone(self, made: Path) -> None:
        error = refused(made / "net.weights.h5")
        assert error.code is Code.NOT_A_MODEL
        assert "weights" in error.message
