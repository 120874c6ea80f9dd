"""Which agents run on this machine, so that tests can say that none is left."""

import os
import time
from collections.abc import Callable
from pathlib import Path


def agents(parent: int | None = None) -> set[int]:
    """Processes whose command line starts an agent and that are not dead; children of one only."""
    return {
        pid
        for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
        if (command := _read(pid, "cmdline"))
        and b"stdin.buffer.read(int(" in command
        and state(pid) not in ("Z", "")
        and (parent is None or parent in ancestors(pid))
    }


def state(pid: int) -> str:
    """R, S, T, Z..., or nothing when there is no such process."""
    return _stat(pid)[0]


def ancestors(pid: int) -> list[int]:
    """Its parent, the parent of that, and so on."""
    found: list[int] = []
    while pid > 1:
        fields = _stat(pid)
        pid = int(fields[1]) if len(fields) > 1 else 0
        found.append(pid)
    return found


def children(pid: int) -> list[int]:
    """Processes that it started and that run."""
    every = map(int, filter(str.isdigit, os.listdir("/proc")))
    return [other for other in every if ancestors(other)[:1] == [pid]]


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _stat(pid: int) -> list[str]:
    text = _read(pid, "stat").decode(errors="replace")
    return text.rpartition(")")[2].split() or [""]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:
        return b""
