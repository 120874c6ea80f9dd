"""What the target files say of saturation, against the kernels of ONNX Runtime."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qcompile.targets.catalog import load_target
from qcompile.targets.host import host_target
from tests.targets.onnxruntime.avx2_kernels import LAYERS, SATURATION, Observed, observe

ROOT = Path(__file__).resolve().parents[3]
EXACT = ("safe", "u8", "precise")
"""Variants that must be exact on every CPU: safe scales, U8 weights, x64quantprecision."""


@pytest.mark.parametrize("layer", LAYERS)
def test_safe_weights_are_exact_on_this_machine(layer: str) -> None:
    for observed in observe(layer, LAYERS[layer]):
        if observed.variant in EXACT:
            assert observed.exact, observed


@pytest.mark.parametrize("layer", LAYERS)
def test_this_machine_saturates_as_its_target_says(layer: str) -> None:
    observed = next(run for run in observe(layer, LAYERS[layer]) if run.variant == "unsafe")
    saturation = load_target(host_target()).saturation
    widens = saturation is None or saturation.pairing[LAYERS[layer].kind] == "none"
    assert observed.exact if widens else observed.saturating


@pytest.fixture(scope="module")
def on_avx2() -> dict[tuple[str, str], Observed]:
    """Every layer and variant on the AVX2 kernels of an emulated Haswell."""
    if platform.machine() not in {"x86_64", "AMD64"}:
        pytest.skip("not x86-64: qemu-user would emulate numpy's wheel of another machine")
    qemu = shutil.which("qemu-x86_64")
    if qemu is None:
        pytest.skip("qemu-x86_64 is not installed (Debian: qemu-user)")
    module = "tests.targets.onnxruntime.avx2_kernels"
    done = subprocess.run(
        [qemu, "-cpu", "Haswell", sys.executable, "-m", module],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    runs = [Observed(**json.loads(line)) for line in done.stdout.splitlines()]
    return {(run.layer, run.variant): run for run in runs}


@pytest.mark.emulated
@pytest.mark.parametrize("layer", LAYERS)
def test_safe_weights_are_exact_on_avx2(
    layer: str, on_avx2: dict[tuple[str, str], Observed]
) -> None:
    for variant in EXACT:
        observed = on_avx2[layer, variant]
        assert observed.exact, observed
    assert on_avx2[layer, "safe"].at_risk == 0


@pytest.mark.emulated
@pytest.mark.parametrize("layer", LAYERS)
def test_unsafe_weights_saturate_as_the_pairing_says(
    layer: str, on_avx2: dict[tuple[str, str], Observed]
) -> None:
    assert SATURATION is not None
    observed = on_avx2[layer, "unsafe"]
    assert observed.differ, "the weights of this test are no test"
    if SATURATION.pairing[LAYERS[layer].kind] == "none":
        assert observed.exact
        assert observed.at_risk == 0
    else:
        assert observed.saturating
        assert not observed.exact
        assert observed.at_risk > 0
