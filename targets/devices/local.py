"""This machine as a device: the agent in a process of its own, under this Python or another."""

import os
import sys

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.channel import BOOT
from qcompile.targets.devices.remote import AgentDevice, Transport


def open_local(spec: str, rest: str, *, timeout: float) -> AgentDevice:
    """Start an agent here.

    Args:
        spec: what the user called the device: ``local``, or ``local:/path/to/python`` for another
            interpreter with runtimes of its own (Python 3.8 or newer, numpy).
        rest: of ``spec``, behind the colon.
        timeout: see ``AgentDevice``.

    Raises:
        QCompileError: UNKNOWN_DEVICE when no program is at that path; as ``AgentDevice``.
    """
    python = rest or sys.executable
    if not (os.path.isfile(python) and os.access(python, os.X_OK)):
        raise QCompileError(
            Code.UNKNOWN_DEVICE,
            f"{spec}: no program is at {python}",
            hint="local:/path/to/python names an interpreter on this machine",
        )
    return AgentDevice(Transport(spec, (os.path.abspath(python), "-c", BOOT)), timeout=timeout)
