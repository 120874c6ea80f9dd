"""Why instructions cannot be counted: each reason is told, with what to install."""

import shutil
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.qemu_counter import (
    make_counter,
    plugin_options,
    read_counts,
    takes_plugins,
)
from qcompile.targets.devices.qemu_userland import Userland


def emulator(folder: Path, body: str) -> list[str]:
    path = folder / "qemu"
    path.write_text(f'#!/bin/sh\nif [ "$1" = -h ]; then echo "{body}"; exit; fi\n')
    path.chmod(0o755)
    return [str(path)]


def test_an_emulator_without_plugins(tmp_path: Path) -> None:
    plain = emulator(tmp_path, "-cpu model")
    assert not takes_plugins(plain)
    with pytest.raises(QCompileError, match="built without -plugin") as caught:
        make_counter(plain, tmp_path / "python", tmp_path / "count.so")
    assert caught.value.code is Code.DEVICE_UNFIT
    assert "--suite bookworm" in str(caught.value.hint)


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(QCompileError, match="no C compiler") as caught:
        make_counter(emulator(tmp_path, "-plugin x"), tmp_path / "python", tmp_path / "count.so")
    assert caught.value.code is Code.DEVICE_UNFIT
    assert caught.value.hint == "apt-get install gcc"


def test_a_compiler_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "false")
    with pytest.raises(QCompileError, match="refused the plugin: it does not say why"):
        make_counter(emulator(tmp_path, "-plugin x"), tmp_path / "python", tmp_path / "count.so")
    monkeypatch.setenv("CC", str(tmp_path / "none"))
    with pytest.raises(QCompileError, match="does not run"):
        make_counter(emulator(tmp_path, "-plugin x"), tmp_path / "python", tmp_path / "count.so")


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_an_emulator_that_counts_nothing(tmp_path: Path) -> None:
    """Every version of the interface is tried, and nothing is left."""
    out = tmp_path / "count.so"
    with pytest.raises(QCompileError, match="does not count with the plugin"):
        make_counter(emulator(tmp_path, "-plugin x"), tmp_path / "python", out)
    assert not out.exists()


def test_options_take_commas(tmp_path: Path) -> None:
    assert plugin_options(Path("/a, b/count.so"), Path("/t,x/c")) == [
        "-plugin",
        "/a,, b/count.so,mark=6000,out=/t,,x/c",
    ]
    assert read_counts(tmp_path / "none") == []


def test_a_machine_without_a_counter_says_why(tmp_path: Path) -> None:
    machine = Userland(tmp_path, {"counter": {"reason": "no C compiler", "hint": "install gcc"}})
    with pytest.raises(QCompileError, match="cannot be counted: no C compiler") as caught:
        _ = machine.counter
    assert (caught.value.code, caught.value.hint) == (Code.DEVICE_UNFIT, "install gcc")
