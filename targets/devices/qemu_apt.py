"""Fetches Debian packages with everything they need, for any architecture, through the user's own
apt: as an ordinary user, with lists and status in a folder that goes away.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError

_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Of the package debian-archive-keyring; without it apt asks the keys it trusts anyway."""
_MIRROR: Final = "http://deb.debian.org/debian"
_PATIENCE_S: Final = 600


@dataclass(frozen=True)
class Sources:
    """Where packages come from."""

    suite: str
    """Code name of the release: bookworm."""
    archives: tuple[tuple[str, str], ...]
    """Address of an archive and the suite there, as they stand in sources.list."""


def host_sources() -> Sources:
    """The archives of this machine's own Debian release.

    Raises:
        QCompileError: DEVICE_UNFIT where this is not Debian, or has no archive of it.
    """
    _require_apt()
    try:
        release = platform.freedesktop_os_release()
    except OSError:  # a system that does not say what it is
        release = {}
    suite = release.get("VERSION_CODENAME", "")
    if release.get("ID") != "debian" or not suite:
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"an emulated ARM64 device is made of Debian's packages, and this machine runs "
            f"{release.get('PRETTY_NAME', 'something else')}",
            hint="name the Debian release and its archive: qcompile device prepare "
            f"--suite bookworm --mirror {_MIRROR}",
        )
    said = _run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"], "apt-get"
    )
    taken = {suite, f"{suite}-updates", f"{suite}-security"}
    rows = (line.split() for line in said.splitlines())
    archives = {
        (row[0], row[1]): None for row in rows if row[1:] in ([name, "main"] for name in taken)
    }
    if not archives:
        raise QCompileError(
            Code.DEVICE_UNFIT,
            f"apt's sources hold no archive of Debian {suite}",
            hint=f"qcompile device prepare --mirror {_MIRROR}",
        )
    return Sources(suite, tuple(archives))


def chosen_sources(suite: str | None, mirror: str | None) -> Sources:
    """The archives that a user names, else those of this machine.

    Args:
        suite: code name of a Debian release; None for this machine's own.
        mirror: address of an archive; None for the one this machine has Debian from.

    Raises:
        QCompileError: DEVICE_UNFIT where nothing is named and this is not Debian.
    """
    if suite is None and mirror is None:
        return host_sources()
    _require_apt()
    if suite is None or mirror is None:
        try:
            own = host_sources()
            suite, mirror = suite or own.suite, mirror or own.archives[0][0]
        except QCompileError:
            if suite is None:
                raise
            mirror = _MIRROR
    for word in (suite, mirror):
        if not word.isprintable() or set(word) & set(" []"):
            raise QCompileError(Code.BAD_OPTION, f"{word!r} cannot stand in a list of sources")
    return Sources(suite, ((mirror, suite),))


def host_architecture() -> str:
    """Debian's name of this machine's architecture: amd64."""
    return _run(["dpkg", "--print-architecture"], "dpkg").strip()


def fetch(
    packages: Sequence[str], architecture: str, sources: Sources, scratch: Path
) -> list[Path]:
    """Download packages and what they depend on; apt checks signatures and hashes.

    Args:
        packages: names.
        architecture: ``arm64``.
        sources: where from.
        scratch: an empty folder, for lists and packages.

    Returns:
        The .deb files, sorted.

    Raises:
        QCompileError: DEVICE_NOT_PREPARED with what apt said.
    """
    archives = scratch / "cache" / "archives"
    for folder in (scratch / "lists" / "partial", archives / "partial"):
        folder.mkdir(parents=True)
    status, listed = scratch / "status", scratch / "sources.list"
    status.touch()
    signed = f" signed-by={_KEYRING}" if _KEYRING.exists() else ""
    listed.write_text(
        "".join(
            f"deb [arch={architecture}{signed}] {address} {suite} main\n"
            for address, suite in sources.archives
        )
    )
    options = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
        "Acquire::Retries": 2,
        "Debug::NoLocking": 1,
        "Dir::Cache": scratch / "cache",
        "Dir::Etc::preferencesparts": os.devnull,
        "Dir::Etc::sourcelist": listed,
        "Dir::Etc::sourceparts": os.devnull,
        "Dir::State": scratch,
        "Dir::State::status": status,
    }
    apt = ["apt-get", "-q", *(w for k, v in options.items() for w in ("-o", f"{k}={v}"))]
    what = f"apt-get, {sources.suite} for {architecture},"
    _run([*apt, "update"], what)
    _run([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *packages], what)
    return sorted(archives.glob("*.deb"))


def _require_apt() -> None:
    if not shutil.which("apt-get"):
        raise QCompileError(
            Code.DEVICE_UNFIT,
            "an emulated ARM64 device is made of Debian's packages, and there is no apt-get here",
            hint="use a Debian container; on a machine that is ARM64 itself, `local`",
        )


def _run(command: Sequence[str], what: str) -> str:
    """What a command printed."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_prepared(f"{what} did not end: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
        said = said or done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise _not_prepared(f"{what} failed: {said[0].removeprefix('E: ')}")
    return done.stdout


def _not_prepared(message: str) -> QCompileError:
    return QCompileError(
        Code.DEVICE_NOT_PREPARED,
        message,
        hint="qcompile device prepare --suite NAME --mirror ADDRESS takes another archive",
    )
