"""An emulated ARM64 CPU: the bits of this machine, instructions that repeat, and no times."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Device, Program
from qcompile.targets.onnxruntime.backend import OrtBackend

MODEL = """
<ir_version: 8, opset_import: ["" : 13]>
agraph (float[1, 16, 12, 12] x) => (float[1, 16, 12, 12] y) {
  xs = Constant<value = float {0.02}>()
  xz = Constant<value = uint8 {128}>()
  ws = Constant<value = float {0.01}>()
  wz = Constant<value = int8 {0}>()
  ys = Constant<value = float {0.1}>()
  xq = QuantizeLinear(x, xs, xz)
  xd = DequantizeLinear(xq, xs, xz)
  wd = DequantizeLinear(w, ws, wz)
  c = Conv<pads = [1, 1, 1, 1]>(xd, wd)
  yq = QuantizeLinear(c, ys, xz)
  y = DequantizeLinear(yq, ys, xz)
}
"""


def model(integer: bool) -> bytes:
    """A convolution of 16 channels, 3 x 3, with weights up to +-64, or the same in floats."""
    made = onnx.parser.parse_model(MODEL)
    rng = np.random.default_rng(3)
    w = rng.integers(-64, 65, (16, 16, 3, 3), np.int8)
    if not integer:
        conv = next(node for node in made.graph.node if node.op_type == "Conv")
        conv.input[:] = ["x", "w"]
        conv.output[:] = ["y"]
        del made.graph.node[:]
        made.graph.node.append(conv)
        w = np.float32(w) * np.float32(0.01)
    made.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    data: bytes = made.SerializeToString()
    return data


FEEDS = {"x": np.random.default_rng(4).uniform(-2, 2, (1, 16, 12, 12)).astype(np.float32)}
INTEGER, FLOAT = Program(model(True), "onnxruntime"), Program(model(False), "onnxruntime")


@pytest.fixture(scope="module")
def a76() -> Iterator[Device]:
    with open_device("qemu:Cortex_A76", timeout=300) as device:
        yield device


@pytest.mark.arm
def test_it_says_what_it_is(a76: Device) -> None:
    info = a76.info
    assert (info.machine, info.system, info.emulated) == ("aarch64", "Linux", True)
    assert info.cpu.startswith("cortex-a76, emulated by QEMU ")
    assert info.features == {"dotprod"}
    assert (info.governor, info.temperature) == ("", None)  # which would be the host's
    import onnxruntime

    assert info.runtimes["onnxruntime"] == onnxruntime.__version__


@pytest.mark.arm
def test_the_bits_of_this_machine(a76: Device) -> None:
    (here,) = OrtBackend().open(INTEGER.data, exact=True).run(FEEDS)
    (there,) = a76.session(INTEGER).run(FEEDS)
    assert np.array_equal(here, there)
    assert len(np.unique(there)) > 50


@pytest.mark.arm
def test_instructions_repeat(a76: Device) -> None:
    programs = {"integer": INTEGER, "float": FLOAT}
    counts = [a76.instructions(programs, dict.fromkeys(programs, FEEDS)) for _ in range(2)]
    for name, most in (("integer", 0.01), ("float", 0.01)):
        first, second = (count[name] for count in counts)
        # both are of 0.1 million, of which Python's own around a run, and its pings, are a tenth
        assert abs(first - second) <= most * first
    assert counts[0]["integer"] < counts[0]["float"]
    assert 20_000 < counts[0]["integer"] < 2_000_000


@pytest.mark.arm
def test_times_mean_nothing(a76: Device) -> None:
    with pytest.raises(QCompileError, match="times there mean nothing") as caught:
        a76.time({"m": INTEGER}, {"m": [FEEDS]})
    assert caught.value.code is Code.DEVICE_UNFIT


@pytest.mark.arm
def test_an_unknown_cpu() -> None:
    with pytest.raises(QCompileError, match="no emulated CPU 'cortex-a9'") as caught:
        open_device("qemu:cortex-a9")
    assert caught.value.code is Code.UNKNOWN_DEVICE
    assert "qemu:cortex-a53, " in str(caught.value.hint)


def test_not_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path))
    with pytest.raises(QCompileError, match=f"no emulated ARM64 machine in {tmp_path}") as caught:
        open_device("qemu:cortex-a53")
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert str(caught.value.hint).startswith("qcompile device prepare ")


def test_it_drives_no_runner(tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match="drives no runner") as caught:
        open_device("qemu:cortex-a53", runner=tmp_path)
    assert caught.value.code is Code.BAD_OPTION
