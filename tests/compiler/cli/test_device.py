"""What ``qcompile device`` prints, with and without a machine that is ready."""

import json
from pathlib import Path

import pytest

from qcompile.targets.devices import qemu_prepare, qemu_wheels
from tests.compiler.cli.conftest import Qcompile
from tests.targets.devices.test_qemu_prepare import Maker


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty one, and a maker that makes what looks like a machine."""
    Maker(monkeypatch)
    made = qemu_prepare._make

    def make(*arguments: object) -> dict[str, object]:
        manifest = made(*arguments)  # type: ignore[arg-type]
        return {**manifest, "suite": "bookworm", "python": "3.11"}

    monkeypatch.setattr(qemu_prepare, "_make", make)
    monkeypatch.setenv("QCOMPILE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_list_with_nothing_ready(qcompile: Qcompile, cache: Path) -> None:
    ended = qcompile("device", "list")
    assert (ended.code, ended.err) == (0, "")
    assert "qcompile device prepare" in ended.out
    for kind in ("local", "qemu", "ssh", "adb"):
        assert f"  {kind}  " in ended.out
    data = json.loads(qcompile("device", "list", "--json").out)
    assert (data["prepared"], "qemu" in data["kinds"]) == (None, True)


def test_prepare_and_list(qcompile: Qcompile, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = qcompile("device", "prepare")
    assert ended.code == 0
    assert "Emulated ARM64 machine, made" in ended.out
    assert "Debian bookworm, Python 3.11" in ended.out
    assert "numpy 2.0, onnxruntime 1.30" in ended.out
    assert "machine, as it was" in qcompile("device", "prepare").out
    assert "machine, made" in qcompile("device", "prepare", "--force").out
    monkeypatch.setattr(qemu_wheels, "host_runtimes", lambda: {"onnxruntime": "1.31"})
    listed = " ".join(qcompile("device", "list").out.split())
    assert "this machine has onnxruntime 1.31: qcompile device prepare takes the same" in listed
    assert "instructions can be counted" in listed


def test_another_cache(qcompile: Qcompile, cache: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert qcompile("device", "prepare", "--cache", other).code == 0
    assert (other / "arm64" / "manifest.json").is_file()
    assert not cache.exists()


def test_show(qcompile: Qcompile) -> None:
    ended = qcompile("device", "show", "local")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("local\n")
    assert "ONNX Runtime: " in ended.out
    data = json.loads(qcompile("device", "show", "local", "--json").out)
    assert (data["spec"], data["emulated"]) == ("local", False)


@pytest.mark.parametrize(
    ("spec", "code", "slug"),
    [("phone", 2, "[unknown-device]"), ("qemu:max", 2, "[device-not-prepared]")],
)
def test_show_what_cannot_be(
    spec: str, code: int, slug: str, qcompile: Qcompile, cache: Path
) -> None:
    ended = qcompile("device", "show", spec)
    assert (ended.code, ended.out) == (code, "")
    assert slug in ended.err
