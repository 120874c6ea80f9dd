"""Weights on the disk are the same arrays, and go with what reads them."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core import on_disk
from qcompile.core.memory import give_back
from qcompile.core.on_disk import LARGE, is_mapped, map_external, to_disk
from tests.passes.prepare.checking import parse

SIDE = 600
TEXT = """
net (float[N, 600] x) => (float[N, 600] y) {
    a = MatMul (x, w)
    b = MatMul (a, v)
    y = Add (b, c)
}"""


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> ir.Model:
    monkeypatch.setattr(on_disk, "LEAST", LARGE)
    rng = np.random.default_rng(0)
    square = (SIDE, SIDE)
    arrays = {
        "w": rng.standard_normal(square, np.float32),
        "v": np.asfortranarray(rng.standard_normal(square, np.float32)),
        "c": rng.standard_normal(SIDE, np.float32),
    }
    model = parse(TEXT, arrays)
    for name, array in arrays.items():
        model.graph.initializers[name].const_value = ir.tensor(array, name=name)
    return model


def _arrays(model: ir.Model) -> dict[str, np.ndarray]:
    found = {}
    for name, value in model.graph.initializers.items():
        assert value.const_value is not None
        found[name] = value.const_value.numpy()
    return found


def test_large_weights_are_moved_and_stay_what_they_are(model: ir.Model) -> None:
    before = {name: array.copy() for name, array in _arrays(model).items()}
    to_disk(model)
    give_back()
    after = _arrays(model)
    assert {name: is_mapped(array) for name, array in after.items()} == {
        "w": True,
        "v": True,
        "c": False,
    }
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_a_second_time_nothing_moves(model: ir.Model) -> None:
    to_disk(model)
    first = _arrays(model)
    to_disk(model)
    assert all(first[name] is array for name, array in _arrays(model).items())


def test_small_models_stay_in_memory(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_disk, "LEAST", 64 << 20)
    to_disk(model)
    assert not any(map(is_mapped, _arrays(model).values()))


def test_without_room_they_stay_in_memory(model: ir.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(on_disk.tempfile, "TemporaryFile", full)
    to_disk(model)
    assert not any(map(is_mapped, _arrays(model).values()))


def test_weights_in_files_of_the_users_are_mapped(model: ir.Model, tmp_path: Path) -> None:
    before = {name: array.copy() for name, array in _arrays(model).items()}
    ir.save(model, tmp_path / "float.onnx", external_data="float.data")
    read = ir.load(tmp_path / "float.onnx")
    map_external(read)
    give_back()
    after = _arrays(read)
    assert is_mapped(after["w"]) and is_mapped(after["v"])
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)
