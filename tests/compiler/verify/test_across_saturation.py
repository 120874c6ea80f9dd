"""AVX2 kernels saturate on hot activations: a naive model parts there, ours is equal everywhere.

An emulated Haswell has AVX2 and no VNNI, whatever this machine has.
"""

import platform
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import check
from qcompile.compiler.progress import SilentCounter
from qcompile.compiler.report.devices import Across, AcrossDevice
from qcompile.compiler.report.wording import page_of
from qcompile.compiler.verify.across import compare_across
from qcompile.compiler.verify.inside import look_inside
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Device
from tests.compiler import small
from tests.compiler.hot_models import hot_float, hot_rows, naive

TIMEOUT = 300.0
SATURATED = 126
"""Steps: K = 64, every activation 255, every weight 127; a pair's sum is twice what int16 holds."""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A program that is this Python on an emulated Haswell."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("not x86-64: qemu-user would emulate numpy's wheel of another machine")
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed (Debian: qemu-user)")
    path = tmp_path_factory.mktemp("haswell") / "python"
    command = shlex.join([qemu, "-cpu", "Haswell", sys.executable])
    path.write_text(f'#!/bin/sh\nexec {command} "$@" 2>/dev/null\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture(scope="module")
def haswell(python: str) -> Iterator[Device]:
    with open_device(f"local:{python}", timeout=TIMEOUT) as device:
        yield device


def across(path: Path, device: Device) -> Across:
    feeds = [{"x": x} for x in hot_rows(2)]
    return compare_across(look_inside(path, {}), [device], feeds, SilentCounter(), search=True)


def on(path: Path, device: Device) -> AcrossDevice:
    return across(path, device).devices[0]


@pytest.mark.emulated
def test_naive_u8s8_parts_at_the_gemm(haswell: Device, tmp_path: Path) -> None:
    one = on(small.saved(naive("uint8"), tmp_path), haswell)
    assert one.verdict == "parts"
    assert one.first is not None
    assert (one.first.value, one.first.op, one.first.own) == ("g", "Gemm", SATURATED)
    assert [gap.verdict for gap in one.layers] == ["parts", "follows"]
    assert one.found is not None
    assert (one.found.value, one.found.largest, one.found.confirmed) == ("g", SATURATED, True)


@pytest.mark.emulated
def test_naive_s8s8_with_float_ends_parts_and_hides_where(haswell: Device, tmp_path: Path) -> None:
    """Rewritten to U8S8 as it is, and left exact as soon as an inner S8 is handed out."""
    one = on(small.saved(naive("int8"), tmp_path), haswell)
    assert one.verdict == "parts"
    assert one.layers == ()
    assert "computes another y" in one.no_layers
    (output,) = one.outputs
    assert output.largest == SATURATED
    assert one.found is not None
    assert (one.found.value, one.found.largest, one.found.confirmed) == ("g", SATURATED, True)


@pytest.mark.emulated
@pytest.mark.parametrize("target", ["ort-x86-avx2", "ort-arm64"])
def test_ours_is_equal(target: str, haswell: Device, tmp_path: Path) -> None:
    """``ort-x86-avx2`` anywhere; what is made for ARM alone may saturate here, and says so."""
    source = small.saved(hot_float(), tmp_path)
    out = tmp_path / "ours.onnx"
    small.built(source, data={"x": hot_rows(16)}, out=out, target=target)
    one = on(out, haswell)
    assert one.layers
    assert (one.verdict == "equal") is (target == "ort-x86-avx2")


@pytest.fixture(scope="module")
def arm() -> Iterator[Device]:
    with open_device("qemu:cortex-a76", timeout=TIMEOUT) as device:
        yield device


@pytest.mark.arm
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_arm_sums_are_exact(dtype: str, arm: Device, tmp_path: Path) -> None:
    assert on(small.saved(naive(dtype), tmp_path), arm).verdict == "equal"


@pytest.mark.arm
@pytest.mark.parametrize("target", ["ort-x86-avx2", "ort-arm64"])
def test_ours_is_equal_on_arm(target: str, arm: Device, tmp_path: Path) -> None:
    source = small.saved(hot_float(), tmp_path)
    out = tmp_path / "ours.onnx"
    small.built(source, data={"x": hot_rows(16)}, out=out, target=target)
    one = on(out, arm)
    assert one.layers
    assert one.verdict == "equal"


@pytest.mark.arm
@pytest.mark.litert
def test_ours_for_tflite_is_equal_on_arm(arm: Device, tmp_path: Path) -> None:
    """XNNPACK's integers there are those of our reference by XNNPACK's rule, layer by layer."""
    source = small.saved(small.cnn(), tmp_path)
    out = tmp_path / "ours.tflite"
    small.built(source, data={"x": small.pictures(32)}, out=out, target="tflite-arm64")
    inside = look_inside(out, {})
    rng = np.random.default_rng(0)
    feeds = [{"x": rng.integers(-128, 128, (1, 8, 8, 3)).astype(np.int8)} for _ in range(3)]
    (one,) = compare_across(inside, [arm], feeds, SilentCounter()).devices
    assert len(one.layers) >= 4
    assert one.verdict == "equal"


@pytest.mark.emulated
def test_the_check_says_where_and_by_how_much(python: str, tmp_path: Path) -> None:
    source = small.saved(hot_float(), tmp_path)
    artefact = small.saved(naive("uint8"), tmp_path, "naive.onnx")
    report = check(
        artefact,
        reference=source,
        data={"x": hot_rows(2)},
        devices=["local", f"local:{python}"],
        device_timeout=TIMEOUT,
        latency=False,
    )
    assert report.across is not None
    here, there = report.across.devices
    assert (there.verdict, there.first and there.first.op) == ("parts", "Gemm")
    said = [remark.text for remark in page_of(report).remarks]
    text = f"parts from our integer reference at Gemm Gemm (value g), by {SATURATED} LSB"
    assert any(text in line and python in line for line in said), said
    assert report._repr_html_()
    assert here.verdict in {"equal", "parts"}, "by the processor here"
