"""A device whose kernels are wrong at a known place: what is said of it, value by value."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.progress import SilentCounter
from qcompile.compiler.report.devices import Across, AcrossDevice
from qcompile.compiler.verify import across as module
from qcompile.compiler.verify.across import compare_across
from qcompile.compiler.verify.inside import Inside, look_inside
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.targets.devices.device import Program
from tests.compiler import small
from tests.compiler.fake_device import FakeDevice, Spoilt, Wrong
from tests.compiler.hot_models import K, hot_rows, naive

SAMPLES = 3


@pytest.fixture(scope="module")
def inside(tmp_path_factory: pytest.TempPathFactory) -> Inside:
    folder = tmp_path_factory.mktemp("across")
    source = small.saved(small.cnn(), folder)
    small.built(source, data={"x": small.pictures(32)}, out=folder / "m.onnx")
    return look_inside(folder / "m.onnx", {})


def compared(inside: Inside, *devices: FakeDevice, search: bool = False) -> Across:
    feeds = [{"x": x[None]} for x in small.pictures(SAMPLES, seed=5)]
    return compare_across(inside, devices, feeds, SilentCounter(), search=search)


def on(inside: Inside, wrong: Wrong | None, *, search: bool = False) -> AcrossDevice:
    return compared(inside, FakeDevice(wrong=wrong), search=search).devices[0]


def off_by(steps: int, *tensors: str) -> Wrong:
    """Adds steps to the first element of values stored in integers."""

    def wrong(name: str, array: np.ndarray) -> np.ndarray:
        if name not in tensors:
            return array
        made = array.copy()
        first = made.reshape(-1)[:1]
        first += np.where(first > 100, -steps, steps).astype(made.dtype)
        return made

    return wrong


def tensor(inside: Inside, name: str) -> str:
    return next(value.tensor for value in inside.values if value.name == name)


def test_what_can_be_read(inside: Inside) -> None:
    values = {value.name: value for value in inside.values}
    assert list(values) == ["b", "d", "e", "f", "y"]
    assert values["d"].parents == {"b"}
    assert values["b"].parents == frozenset(), "inputs are equal anyway"
    assert [values[name].op for name in "bef"] == ["Conv", "GlobalAveragePool", "Flatten"]
    assert [name for name, value in values.items() if not value.steps] == ["y"]


def test_sums_that_cannot_be_watched_are_told_by_what_sums(tmp_path: Path) -> None:
    source = small.saved(small.mlp(), tmp_path)
    out = tmp_path / "dynamic.onnx"
    small.built(source, scheme="w8a8-dynamic", data={"x": small.rows(8)}, out=out)
    values = look_inside(out, {}).values
    ops = [value.op for value in values]
    assert "Cast" not in ops
    assert ops.count("MatMulInteger") == 2


def test_equal_machines(inside: Inside) -> None:
    found = compared(inside, FakeDevice(), FakeDevice())
    assert found.samples == SAMPLES
    assert "exact sums" in found.rule
    for one in found.devices:
        assert one.verdict == "equal"
        assert one.first is None
        assert {gap.verdict for gap in (*one.outputs, *one.layers)} == {"equal"}
        assert len(one.layers) == len(inside.values)


def test_the_operator_that_parts_is_told_from_those_that_follow(inside: Inside) -> None:
    """``d`` is wrong by itself; what is made from it is not held against its own operators."""
    spoilt = off_by(9, tensor(inside, "d"), tensor(inside, "e"))
    one = on(inside, spoilt)
    verdicts = {gap.value: gap.verdict for gap in one.layers}
    assert verdicts["b"] == "equal"
    assert verdicts["d"] == "parts"
    assert verdicts["e"] == "follows"
    assert one.verdict == "parts"
    assert one.first is not None
    assert (one.first.value, one.first.largest, one.first.own) == ("d", 9, 9)
    elements = SAMPLES * 8 * 4 * 4
    assert one.first.share == pytest.approx(SAMPLES / elements)
    (output,) = one.outputs
    assert output.verdict == "equal"


def test_what_the_table_allows_does_not_part(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = tuple(
        module.Inner(**{**vars(value), "allowed": 2.0}) if value.name == "d" else value
        for value in inside.values
    )
    loose = Inside(inside.path, inside.runtime, inside.side)
    loose.__dict__["values"] = values
    one = on(loose, off_by(2, tensor(inside, "d")))
    assert one.verdict == "allowed"
    assert one.first is not None
    assert one.first.verdict == "allowed"
    assert on(loose, off_by(3, tensor(inside, "d"))).verdict == "parts"


def test_outputs_are_counted_in_the_steps_they_were_stored_in(tmp_path: Path) -> None:
    """``y`` is the floats of ``h``."""
    path = small.saved(naive("uint8"), tmp_path)
    stored = look_inside(path, {})
    inner = stored.output_value("y")
    assert inner is not None
    assert inner.name == "h"

    def wrong(name: str, array: np.ndarray) -> np.ndarray:
        return array - np.float32(4 * K / 255) if name == "y" else array

    feeds = [{"x": x} for x in hot_rows(1)]
    machine = FakeDevice(wrong=wrong)
    (one,) = compare_across(stored, [machine], feeds, SilentCounter()).devices
    (output,) = one.outputs
    assert (output.largest, output.steps, output.share) == (4.0, True, 1.0)
    assert output.op == "Gemm"


class Refuses(FakeDevice):
    """Loads the artefact as it is and no other file."""

    def session(self, program: Program) -> Session:
        if self.programs:
            self.programs.append(program)
            raise QCompileError(Code.RUNTIME_REFUSED, "no such output")
        return super().session(program)


def test_an_inside_that_cannot_be_exposed_is_said(inside: Inside) -> None:
    one = compared(inside, Refuses()).devices[0]
    assert one.layers == ()
    assert "no such output" in one.no_layers
    assert one.verdict == "equal"


def test_a_device_that_takes_no_inputs_is_left_out(inside: Inside) -> None:
    found = compared(inside, FakeDevice(refuses_inputs=True), FakeDevice())
    assert len(found.devices) == 1


def test_an_inside_that_changes_when_it_is_watched_is_cut_instead(inside: Inside) -> None:
    """As ONNX Runtime on x86 does with S8: wrong as it is, exact where values are handed out."""
    names = {value.tensor for value in inside.values} | {value.end for value in inside.values}

    class Shy(FakeDevice):
        def session(self, program: Program) -> Session:
            session = super().session(program)
            watched = len(session.output_names) > 1
            if watched:
                return session

            def wrong(name: str, array: np.ndarray) -> np.ndarray:
                return off_by(40, *names, "y")(name, array) if name != first else array

            return Spoilt(session, wrong)

    first = inside.values[0].end
    one = compared(inside, Shy()).devices[0]
    assert one.layers == ()
    assert "computes another y" in one.no_layers
    assert one.found is not None
    assert one.found.value == "d"
    assert one.found.confirmed


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(small.cnn(), str(path), save_as_external_data=True, location="w", size_threshold=0)
    with pytest.raises(QCompileError, match="one file") as caught:
        look_inside(path, {})
    assert caught.value.code is Code.DEVICE_UNFIT
