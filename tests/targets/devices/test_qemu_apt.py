"""What apt is asked, as whom, and what becomes of what it says; a script stands for it."""

import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.qemu_apt import Sources, chosen_sources, fetch, host_sources

INDEX = """http://deb.example/debian/ bookworm main
http://deb.example/debian/ bookworm contrib
http://deb.example/debian/ bookworm-updates main
http://deb.example/debian/ bookworm-backports main
http://sec.example/debian-security/ bookworm-security main
http://docker.example/linux/debian bookworm stable
http://pg.example/apt bookworm-pgdg main
"""
DEBIAN = {"ID": "debian", "VERSION_CODENAME": "bookworm", "PRETTY_NAME": "Debian 12"}
UBUNTU = {"ID": "ubuntu", "VERSION_CODENAME": "noble", "PRETTY_NAME": "Ubuntu 24.04"}

Apt = Callable[..., Path]


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Apt:
    """Puts a script of that name on the path; its arguments go to the file that is returned."""

    def make(script: str, release: dict[str, str] = DEBIAN) -> Path:
        path = tmp_path / "bin"
        path.mkdir()
        log = tmp_path / "log"
        (path / "apt-get").write_text(f'#!/bin/sh\necho "$@" >>"{log}"\n{script}\n')
        (path / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
        monkeypatch.setattr(platform, "freedesktop_os_release", lambda: release)
        return log

    return make


def test_the_archives_of_this_release(apt: Apt) -> None:
    apt(f"cat <<'END'\n{INDEX}END")
    assert host_sources() == Sources(
        "bookworm",
        (
            ("http://deb.example/debian/", "bookworm"),
            ("http://deb.example/debian/", "bookworm-updates"),
            ("http://sec.example/debian-security/", "bookworm-security"),
        ),
    )


def test_a_user_names_another_release(apt: Apt) -> None:
    apt(f"cat <<'END'\n{INDEX}END")
    trixie = (("http://deb.example/debian/", "trixie"),)
    assert chosen_sources("trixie", None) == Sources("trixie", trixie)
    mine = (("http://mine.example/", "bookworm"),)
    assert chosen_sources(None, "http://mine.example/") == Sources("bookworm", mine)


def test_another_system_needs_a_name(apt: Apt) -> None:
    apt("exit 0", UBUNTU)
    with pytest.raises(QCompileError, match=r"runs Ubuntu 24\.04") as caught:
        chosen_sources(None, None)
    assert caught.value.code is Code.DEVICE_UNFIT
    assert "--suite bookworm --mirror" in str(caught.value.hint)
    with pytest.raises(QCompileError, match="runs Ubuntu"):
        chosen_sources(None, "http://mine.example/")
    (archive,) = chosen_sources("bookworm", None).archives
    assert archive == ("http://deb.debian.org/debian", "bookworm")


def test_a_system_without_apt(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for suite in (None, "bookworm"):
        with pytest.raises(QCompileError, match="there is no apt-get here") as caught:
            chosen_sources(suite, None)
        assert caught.value.code is Code.DEVICE_UNFIT


def test_sources_without_debian(apt: Apt) -> None:
    apt("echo http://docker.example/ bookworm stable")
    with pytest.raises(QCompileError, match="no archive of Debian bookworm"):
        host_sources()


@pytest.mark.parametrize("word", ["book worm", "x]\ndeb [trusted=yes] http://evil/", "a\tb", "\n"])
def test_nothing_else_gets_into_the_list_of_sources(word: str, apt: Apt) -> None:
    apt("exit 0")
    for suite, mirror in ((word, "http://mine.example/"), ("bookworm", word)):
        with pytest.raises(QCompileError, match="cannot stand in a list of sources") as caught:
            chosen_sources(suite, mirror)
        assert caught.value.code is Code.BAD_OPTION


def test_a_fetch_uses_its_own_folders_alone(apt: Apt, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    log = apt(
        f'case "$*" in *install*) touch "{scratch}/cache/archives/b_1_arm64.deb" '
        f'"{scratch}/cache/archives/a_1_all.deb";; esac'
    )
    sources = Sources("bookworm", (("http://deb.example/debian", "bookworm"),))
    found = fetch(["python3-minimal"], "arm64", sources, scratch)
    assert [path.name for path in found] == ["a_1_all.deb", "b_1_arm64.deb"]
    update, install = log.read_text().splitlines()
    assert update.endswith(" update")
    assert install.endswith("--download-only --no-install-recommends python3-minimal")
    for line in (update, install):
        assert f"Dir::State={scratch} " in line
        assert f"Dir::Cache={scratch}/cache " in line
        assert f"Dir::Etc::sourcelist={scratch}/sources.list " in line
        assert "Dir::Etc::sourceparts=/dev/null " in line
        assert "APT::Architectures=arm64 " in line
    (listed,) = (scratch / "sources.list").read_text().splitlines()
    assert listed.startswith("deb [arch=arm64")
    assert listed.endswith("] http://deb.example/debian bookworm main")


def test_what_apt_refuses(apt: Apt, tmp_path: Path) -> None:
    apt("echo 'W: x' >&2; echo 'E: The repository has no Release file.' >&2; exit 100")
    sources = Sources("bookworm", (("http://deb.example/debian", "bookworm"),))
    with pytest.raises(QCompileError) as caught:
        fetch(["python3-minimal"], "arm64", sources, tmp_path / "scratch")
    assert caught.value.code is Code.DEVICE_NOT_PREPARED
    assert caught.value.message == (
        "apt-get, bookworm for arm64, failed: The repository has no Release file."
    )
