"""Runs a command on this side of a connection: output, time-out, and stdin that stays open."""

import os
import select
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack

from qcompile.core.errors import Code, QCompileError


def call(
    argv: Sequence[str], *, timeout: float, data: bytes | None = None
) -> tuple[int, bytes, bytes] | None:
    """Run a command.

    Args:
        argv: the command line; no shell sees it.
        timeout: seconds after which it is killed.
        data: its input; when None its stdin stays open, silent, until it has ended.

    Returns:
        Exit code, stdout and stderr; None when the time ran out.

    Raises:
        OSError: it cannot be started.
    """
    if data is not None:
        return _finish(argv, subprocess.PIPE, timeout, data)
    reading, writing = os.pipe()
    try:
        return _finish(argv, reading, timeout, None)
    finally:
        os.close(reading)
        os.close(writing)


def start(
    argv: Sequence[str], mark: bytes, *, timeout: float, name: str
) -> "subprocess.Popen[bytes]":
    """Start a command that ends when its stdin, a pipe, is closed, and wait until it prints a mark.

    Ctrl-C does not reach it: who started it ends it.

    Raises:
        QCompileError: DEVICE_LOST, naming the device, when the mark does not come.
    """
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        raise QCompileError(
            Code.DEVICE_LOST, f"{name}: {argv[0]} does not start: {error.strerror}"
        ) from error
    with ExitStack() as unless_it_answers:
        unless_it_answers.callback(_end, process)
        said = _read_until(process, mark, time.monotonic() + timeout)
        if mark in said:
            unless_it_answers.pop_all()
            return process
    lines = said.decode(errors="replace").strip().splitlines()
    why = lines[-1] if lines else f"no answer within {timeout:.0f} s"
    raise QCompileError(Code.DEVICE_LOST, f"{name}: {why}")


def _read_until(process: "subprocess.Popen[bytes]", mark: bytes, deadline: float) -> bytes:
    """What it prints, up to the mark, the deadline, or its end."""
    assert process.stdout is not None
    said = b""
    while mark not in said:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            break
        part = os.read(process.stdout.fileno(), 4096)
        if not part:
            break
        said += part
    return said


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    with process:  # closes its pipes and waits
        pass


def _finish(
    argv: Sequence[str], stdin: int, timeout: float, data: bytes | None
) -> tuple[int, bytes, bytes] | None:
    with subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            out, err = process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            return None
        finally:
            process.kill()  # does nothing to one that has ended
        return process.returncode, out, err
