"""HDF5 files of Keras before Keras reads them: links, other files, sizes, damage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.keras_files import dense, layer, model

h5py = pytest.importorskip("h5py", reason="no TensorFlow")
from qcompile.compiler.importers import keras_hdf5  # noqa: E402

pytestmark = pytest.mark.tensorflow


def written(path: Path, add: Callable[[Any], object], config: Any = None) -> Path:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model(dense()) if config is None else config)
        add(file.create_group("model_weights"))
    return path


def refused(path: Path) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        keras_hdf5.prepare_hdf5(path, path.parent, trust=False)
    return caught.value


def test_a_plain_file_stays_where_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5", lambda g: g.create_dataset("w", data=np.ones(3)))
    assert keras_hdf5.prepare_hdf5(path, tmp_path, trust=False) == path


def test_what_keras_2_wrote_is_mended_in_a_copy(tmp_path: Path) -> None:
    config = model(layer("LSTM", config={"units": 2, "time_major": False}))
    path = written(tmp_path / "old.h5", lambda g: g.create_dataset("w", data=np.ones(3)), config)
    before = path.read_bytes()
    copy = keras_hdf5.prepare_hdf5(path, tmp_path, trust=False)
    assert copy != path
    assert path.read_bytes() == before
    with h5py.File(copy) as file:
        assert "time_major" not in file.attrs["model_config"]
        assert file["model_weights/w"][0] == 1


@pytest.mark.parametrize(
    "add",
    [
        lambda g: g.__setitem__("w", h5py.ExternalLink("/etc/passwd", "/")),
        lambda g: g.__setitem__("w", h5py.SoftLink("/model_weights")),
        lambda g: g.create_dataset("w", (4,), "u1", external=[("/etc/passwd", 0, 4)]),
    ],
)
def test_weights_from_elsewhere(add: Callable[[Any], object], tmp_path: Path) -> None:
    assert refused(written(tmp_path / "m.h5", add)).code is Code.UNTRUSTED_MODEL


def test_virtual_weights(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    path = written(tmp_path / "m.h5", lambda g: g.create_virtual_dataset("w", layout))
    assert refused(path).code is Code.UNTRUSTED_MODEL


def test_more_weights_than_the_file_can_hold(tmp_path: Path) -> None:
    path = written(
        tmp_path / "m.h5", lambda g: g.create_dataset("w", (1 << 40,), "f4", chunks=(1024,))
    )
    assert refused(path).code is Code.MODEL_INVALID


def test_groups_in_a_circle_are_read_once(tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5", lambda g: g.__setitem__("again", g))
    keras_hdf5.prepare_hdf5(path, tmp_path, trust=False)


def test_what_is_no_whole_model(tmp_path: Path) -> None:
    path = written(tmp_path / "m.h5", lambda g: g.create_dataset("w", data=np.ones(4096)))
    path.write_bytes(path.read_bytes()[:-1000])
    assert refused(path).code is Code.MODEL_TRUNCATED
    path.write_bytes(b"")
    assert refused(path).code is Code.NOT_A_MODEL
    with h5py.File(path, "w") as file:
        file["data"] = np.ones(3)
    assert refused(path).code is Code.NOT_A_MODEL
