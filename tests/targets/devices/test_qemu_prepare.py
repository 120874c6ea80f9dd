"""An emulated machine is whole or not there: interrupted, killed, made twice, made as nobody."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices import qemu_prepare
from qcompile.targets.devices.qemu_apt import Sources
from qcompile.targets.devices.qemu_prepare import Wishes, prepare
from qcompile.targets.devices.qemu_userland import cache_folder, find_userland, userland
from tests.house.imports import ROOT

VERSIONS = {"numpy": "2.0", "onnxruntime": "1.30"}


class Maker:
    """Stands for the part that fetches: makes files that look like a machine, or fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.made = 0
        self.error: BaseException | None = None
        self.seconds = 0.0
        monkeypatch.setattr(qemu_prepare, "_make", self.make)
        monkeypatch.setattr(
            qemu_prepare, "chosen_sources", lambda suite, _: Sources(suite or "bookworm", ())
        )
        monkeypatch.setattr(qemu_prepare, "host_runtimes", lambda: dict(VERSIONS))

    def make(
        self, folder: Path, _: Sources, runtimes: Mapping[str, str], *rest: object
    ) -> dict[str, Any]:
        self.made += 1
        python = folder / "sysroot" / "usr" / "bin" / "python3"
        python.parent.mkdir(parents=True)
        python.write_text(str(self.made))
        time.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        emulator = {"path": "/bin/sh", "version": "7.2.22"}
        counter = {"reason": "", "hint": None}
        return {"version": 1, "runtimes": runtimes, "emulator": emulator, "counter": counter}


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Maker:
    return Maker(monkeypatch)


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


def test_it_is_made_once(maker: Maker, tmp_path: Path) -> None:
    first, made = prepare(cache=tmp_path)
    assert (made, dict(first.runtimes)) == (True, VERSIONS)
    again, made = prepare(cache=tmp_path)
    assert (made, maker.made) == (False, 1)
    assert again == first
    assert names(tmp_path) == ["arm64", "arm64.lock"]
    _, made = prepare(force=True, cache=tmp_path)
    assert (made, maker.made) == (True, 2)
    assert userland(tmp_path).python.read_text() == "2"
    assert names(tmp_path) == ["arm64", "arm64.lock"]


@pytest.mark.parametrize(
    "other",
    [
        Wishes(suite="trixie"),
        Wishes(fetch_emulator=True),
        Wishes(runtimes={**VERSIONS, "onnxruntime": "1.31"}),
    ],
)
def test_another_wish_makes_another(other: Wishes, maker: Maker, tmp_path: Path) -> None:
    prepare(cache=tmp_path)
    assert prepare(other, cache=tmp_path)[1]
    assert not prepare(other, cache=tmp_path)[1]
    assert maker.made == 2


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), QCompileError(Code.DEVICE_NOT_PREPARED, "x"), OSError()]
)
def test_interrupted_nothing_is_left(error: BaseException, maker: Maker, tmp_path: Path) -> None:
    maker.error = error
    with pytest.raises(type(error)):
        prepare(cache=tmp_path)
    assert names(tmp_path) == ["arm64.lock"]
    maker.error = None
    prepare(cache=tmp_path)
    maker.error = error
    with pytest.raises(type(error)):
        prepare(force=True, cache=tmp_path)
    assert names(tmp_path) == ["arm64", "arm64.lock"]
    assert userland(tmp_path).python.read_text() == "2"


def test_what_a_killed_one_left_is_removed(maker: Maker, tmp_path: Path) -> None:
    prepare(cache=tmp_path)
    (tmp_path / "arm64.partial-abc" / "sysroot").mkdir(parents=True)
    prepare(cache=tmp_path)
    assert names(tmp_path) == ["arm64", "arm64.lock"]
    # killed between the two renames
    (tmp_path / "arm64").rename(tmp_path / "arm64.old")
    assert find_userland(tmp_path) is None
    assert not prepare(cache=tmp_path)[1]
    assert names(tmp_path) == ["arm64", "arm64.lock"]
    assert maker.made == 1


def test_a_second_one_waits_for_the_first(maker: Maker, tmp_path: Path) -> None:
    maker.seconds = 0.3
    made: list[bool] = []
    threads = [
        threading.Thread(target=lambda: made.append(prepare(cache=tmp_path)[1])) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (sorted(made), maker.made) == ([False, False, True], 1)


def test_a_cache_that_cannot_be(maker: Maker, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(QCompileError) as caught:
        prepare(cache=tmp_path / "file")
    assert caught.value.code is Code.OUTPUT_UNWRITABLE


def test_an_emulator_that_hangs(maker: Maker, tmp_path: Path) -> None:
    maker.error = subprocess.TimeoutExpired("qemu", 600)
    with pytest.raises(QCompileError, match="did not end within 600 seconds") as caught:
        prepare(cache=tmp_path)
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert names(tmp_path) == ["arm64.lock"]


@pytest.mark.parametrize("damage", ["python", "manifest", "version", "emulator"])
def test_a_damaged_one_is_none(damage: str, maker: Maker, tmp_path: Path) -> None:
    prepare(cache=tmp_path)
    manifest = tmp_path / "arm64" / "manifest.json"
    data = json.loads(manifest.read_text())
    if damage == "python":
        userland(tmp_path).python.unlink()
    elif damage == "manifest":
        manifest.write_text("{")
    elif damage == "version":
        manifest.write_text(json.dumps({**data, "version": 0}))
    else:
        manifest.write_text(json.dumps({**data, "emulator": {"path": "/gone", "version": "7"}}))
    with pytest.raises(QCompileError) as caught:
        userland(tmp_path)
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert "qcompile device prepare" in str(caught.value.hint)
    assert prepare(cache=tmp_path)[1]


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("QCOMPILE_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == tmp_path / ".cache" / "qcompile"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which its specification says to ignore
    assert cache_folder() == tmp_path / ".cache" / "qcompile"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert cache_folder() == Path("/x/qcompile")
    monkeypatch.setenv("QCOMPILE_CACHE", "/y")
    assert cache_folder() == Path("/y")


def ordinary(user: int) -> list[str]:
    """Becomes a user who may read everything: clone and Python may lie where only root looks."""
    if os.getuid() != 0:
        return []
    reads = ("--inh-caps=-all,+dac_read_search", "--ambient-caps=+dac_read_search")
    return ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", *reads]


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that others may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.arm
@pytest.mark.slow
def test_from_nothing_as_an_ordinary_user(public: Path) -> None:
    """Under four minutes, without root, in a folder with a comma: and it runs."""
    cache = public / "a cache, of mine"
    cache.mkdir()
    user = os.getuid() or 65534
    os.chown(cache, user, -1)
    start = time.monotonic()
    for words in (
        ("device", "prepare", "--fetch-emulator"),
        ("device", "show", "qemu:cortex-a76", "--json"),
    ):
        done = subprocess.run(
            [*ordinary(user), sys.executable, "-m", "qcompile.compiler.cli.main", *words],
            cwd=ROOT,
            env={**os.environ, "HOME": str(cache), "QCOMPILE_CACHE": str(cache)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert time.monotonic() - start < 240
    shown = json.loads(done.stdout)
    assert (shown["machine"], shown["features"]) == ("aarch64", ["dotprod"])
    machine = userland(cache)
    assert machine.manifest["emulator"]["path"] == ""
    assert len(machine.manifest["sha256"]) > 30
    owners = {p.lstat().st_uid for p in machine.folder.rglob("*")}
    assert owners == {user}
    assert {p.name for p in cache.glob("arm64*")} == {"arm64", "arm64.lock"}
