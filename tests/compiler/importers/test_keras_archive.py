"""A .keras archive before Keras reads it: code, places outside, sizes, damage. No framework."""

import json
import zipfile
from pathlib import Path

import pytest

from qcompile.compiler.importers import keras_archive
from qcompile.compiler.importers.keras_archive import check_archive, mended
from qcompile.compiler.importers.source import open_source
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.keras_files import archive, dense, layer, model, touching


def refused(path: Path, *, trust: bool = False) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        check_archive(path, trust=trust)
    return caught.value


def test_a_plain_model_is_taken(tmp_path: Path) -> None:
    config = model(dense()) | {"compile_config": {"loss": {"class_name": "x>Mine", "config": {}}}}
    check_archive(archive(tmp_path / "m.keras", config), trust=False)


def test_a_lambda_is_refused_before_it_runs(tmp_path: Path) -> None:
    """Through the front, without a framework; ``test_keras`` shows that its code is alive."""
    canary = tmp_path / "canary"
    path = archive(tmp_path / "m.keras", model(touching(canary)))
    with pytest.raises(QCompileError) as caught, open_source(path):
        pass
    assert (caught.value.code, caught.value.node) == (Code.UNTRUSTED_MODEL, "culprit")
    assert not canary.exists()
    check_archive(path, trust=True)


def test_a_path_to_a_function_is_refused_before_it_runs(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    call = layer("function", module="os", registered_name="system") | {"config": "system"}
    call |= {"inbound_nodes": [{"args": [f"touch {canary}"], "kwargs": {}}]}
    path = archive(tmp_path / "m.keras", model(call))
    with pytest.raises(QCompileError) as caught, open_source(path):
        pass
    assert caught.value.code is Code.UNTRUSTED_MODEL
    assert "os" in caught.value.message
    assert not canary.exists()


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/out", "\\out", "..\\out", "C:/out"])
def test_members_that_unpack_elsewhere(name: str, tmp_path: Path) -> None:
    members = {"model.weights.h5": b"", name: b"x"}
    path = archive(tmp_path / "m.keras", model(dense()), members)
    assert refused(path, trust=True).code is Code.UNTRUSTED_MODEL


def test_links(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", model(dense()))
    link = zipfile.ZipInfo("assets")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as file:
        file.writestr(link, "/etc")
    assert refused(path).code is Code.UNTRUSTED_MODEL


def test_a_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras_archive, "FREE_SIZE", 1 << 16)
    path = tmp_path / "m.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("config.json", json.dumps(model(dense())))
        file.writestr("model.weights.h5", bytes(1 << 20))
    error = refused(path)
    assert error.code is Code.MODEL_INVALID
    assert "1048576" in error.message


def test_two_members_of_one_name(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", model(dense()))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", "{}")
    assert refused(path).code is Code.MODEL_INVALID


def test_what_is_no_whole_archive(tmp_path: Path) -> None:
    path = archive(tmp_path / "m.keras", model(dense()), {"model.weights.h5": bytes(1000)})
    data = path.read_bytes()
    path.write_bytes(data[:-100])
    assert refused(path).code is Code.MODEL_TRUNCATED
    place = data.index(bytes(500))
    path.write_bytes(data[:place] + b"x" + data[place + 1 :])
    assert refused(path).code is Code.MODEL_TRUNCATED  # a checksum
    path.write_bytes(b"")
    assert refused(path).code is Code.NOT_A_MODEL
    path.write_bytes(b"plain text")
    assert refused(path).code is Code.NOT_A_MODEL


def test_an_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        file.writestr("arr_0.npy", b"")
    assert refused(tmp_path / "m.keras").code is Code.NOT_A_MODEL


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "[" * 100_000])
def test_a_configuration_that_is_none(text: str, tmp_path: Path) -> None:
    assert refused(archive(tmp_path / "m.keras", text)).code is Code.MODEL_INVALID


def test_functional_models_of_keras_2(tmp_path: Path) -> None:
    """They name a module that is not there any more; the copy names the one that is."""
    config = model(dense())
    config |= {"class_name": "Functional", "module": "tf_keras.src.engine.functional"}
    path = archive(tmp_path / "m.keras", config, {"model.weights.h5": b"weights"})
    check_archive(path, trust=False)
    copy = mended(path, tmp_path)
    assert copy != path
    with zipfile.ZipFile(copy) as file:
        assert json.loads(file.read("config.json"))["module"] == "keras.src.models.functional"
        assert file.read("model.weights.h5") == b"weights"
    assert mended(copy, tmp_path) == copy
