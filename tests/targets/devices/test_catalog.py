"""The devices that can be named."""

import subprocess
import sys
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.catalog import DEVICES, open_device


@pytest.mark.parametrize("spec", ["", "phone", "local:", "Local", " local", "loca:l", ":local"])
def test_an_unknown_device_names_those_that_are(spec: str) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(spec)
    assert caught.value.code is Code.UNKNOWN_DEVICE
    assert all(kind in str(caught.value.hint) for kind in DEVICES)


@pytest.mark.parametrize("path", ["/no/such/python", "/tmp", "-c"])
def test_a_python_that_is_none(path: str) -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(f"local:{path}")
    assert caught.value.code is Code.UNKNOWN_DEVICE


def test_a_runner_where_none_is_driven() -> None:
    with pytest.raises(QCompileError) as caught:
        open_device(f"local:{sys.executable}", runner=Path("benchmark_model"))
    assert caught.value.code is Code.BAD_OPTION


def test_listing_them_loads_nothing_heavy() -> None:
    heavy = ("onnx", "onnx_ir", "onnxruntime", "ai_edge_litert")
    code = f"import sys, {open_device.__module__}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
