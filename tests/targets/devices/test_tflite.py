"""TFLite models on a device: kernels, inner values, the same bits as in this process."""

from collections.abc import Iterator

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Device, Kernels, Program, TimingPlan

pytestmark = pytest.mark.litert

TYPES = (("default", "xnnpack"), ("builtin", "builtin"), ("reference", "reference"))


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with open_device("local", timeout=60.0) as one:
        yield one


@pytest.fixture(scope="module")
def artefact() -> bytes:
    from tests.targets.tflite.sound import sound

    return sound()


FEEDS = {
    "x": np.arange(32, dtype=np.int8).reshape(1, 4, 4, 2),
    "other": np.arange(16, dtype=np.int8).reshape(1, 2, 2, 4),
}


@pytest.mark.parametrize(("there", "here"), TYPES)
def test_the_same_bits_as_in_this_process(
    device: Device, artefact: bytes, there: Kernels, here: str
) -> None:
    from qcompile.targets.tflite.runtime import TfliteSession

    session = device.session(Program(artefact, "tflite", kernels=there))
    local = TfliteSession(artefact, here)  # type: ignore[arg-type]
    assert tuple(session.input_names) == local.input_names
    assert tuple(session.output_names) == local.output_names
    for seed in range(4):
        rng = np.random.default_rng(seed)
        feeds = {k: rng.integers(-128, 128, v.shape).astype(np.int8) for k, v in FEEDS.items()}
        (out,), (expected,) = session.run(feeds), local.run(feeds)
        assert (out.dtype, out.tobytes()) == (expected.dtype, expected.tobytes())


def test_inner_values_come_behind_the_outputs(device: Device, artefact: bytes) -> None:
    from qcompile.targets.tflite.runtime import TfliteSession

    taps = ("conv", "fc")
    session = device.session(Program(artefact, "tflite", kernels="reference", taps=taps))
    assert tuple(session.output_names) == ("softmax", "conv", "fc")
    inner = TfliteSession(artefact, "reference", outputs=["softmax", *taps]).run(FEEDS)
    for out, expected in zip(session.run(FEEDS), inner, strict=True):
        assert np.array_equal(out, expected)


def test_an_inner_value_that_is_none(device: Device, artefact: bytes) -> None:
    with pytest.raises(QCompileError, match="no tensor 'nothing'") as caught:
        device.session(Program(artefact, "tflite", kernels="builtin", taps=("nothing",)))
    assert caught.value.code is Code.BAD_OPTION


def test_what_is_no_model(device: Device) -> None:
    with pytest.raises(QCompileError, match="LiteRT does not load") as caught:
        device.session(Program(b"no model", "tflite"))
    assert caught.value.code is Code.RUNTIME_REFUSED


def test_a_feed_of_another_shape_fails_and_the_device_lives_on(
    device: Device, artefact: bytes
) -> None:
    session = device.session(Program(artefact, "tflite"))
    with pytest.raises(QCompileError) as caught:
        session.run({**FEEDS, "x": np.zeros((1, 9), np.int8)})
    assert caught.value.code is Code.RUNTIME_FAILED
    assert len(session.run(FEEDS)) == 1


def test_kernels_are_timed_against_each_other(device: Device, artefact: bytes) -> None:
    programs = {name: Program(artefact, "tflite", kernels=name) for name, _ in TYPES}
    timed = device.time(programs, {name: [FEEDS] for name in programs}, TimingPlan(0.1))
    assert len({len(row) for row in timed.seconds.values()}) == 1
