"""Runs a command on this side of a connection: output, time-out, and stdin that stays open."""

import os
import subprocess
from collections.abc import Sequence


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


def _finish(
    argv: Sequence[str], stdin: int, timeout: float, data: bytes | None
) -> tuple[int, bytes, bytes] | None:
    with subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            out, err = process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
        except BaseException:
            process.kill()
            raise
        return process.returncode, out, err
