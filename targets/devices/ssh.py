"""A machine behind the user's own ``ssh``, with its configuration, keys and agent.

``ssh:[user@]host[:port][,python=COMMAND]``: the host is a name, an alias of ssh_config, or an
address (IPv6 in brackets); ``python`` names the interpreter there, ``python3`` unless said, also
``~/venv/bin/python``. Every part must match a strict pattern, so that none can be read as an option
of ssh or as text of a shell; nothing else that the user names, such as a model's file, appears in
the command.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.channel import BOOT
from qcompile.targets.devices.remote import AgentDevice, Transport

FORM: Final = "ssh:user@host[:port][,python=COMMAND]"

_NAME: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_WHERE: Final = re.compile(
    rf"(?:(?P<user>{_NAME})@)?(?:(?P<host>{_NAME})|\[(?P<address>[0-9A-Fa-f:.]+(?:%{_NAME})?)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?:,python=(?P<python>~?[A-Za-z0-9_/.][A-Za-z0-9_/.+-]*))?",
    re.ASCII,
)

_HINTS: Final[Mapping[str, str]] = {
    "Permission denied": "a key that asks for nothing: ssh-agent, or IdentityFile in ssh_config",
    "Host key verification failed": "connect once by hand, so that ssh knows the host",
}
"""Last words of ssh -> what to do; it is not let ask."""


@dataclass(frozen=True)
class SshHost:
    """Where to connect to; no part has a character that ssh or a shell gives a meaning."""

    destination: str
    """``user@host``, as ssh takes it."""
    port: int | None
    """None: as ssh_config says."""
    python: str
    """Command of the interpreter there; only a leading ``~`` is for its shell."""


def open_ssh(spec: str, rest: str, *, timeout: float) -> AgentDevice:
    """Connect and start the agent there.

    Raises:
        QCompileError: UNKNOWN_DEVICE for what is not of the form; DEVICE_LOST with ssh's own words
            when it does not connect, or when it asks for a password; MISSING_RUNTIME when there is
            no such Python or no numpy for it.
    """
    host = parse_host(spec, rest)
    command = (*ssh_command(host, timeout), f"exec {host.python} -c '{BOOT}'")
    try:
        return AgentDevice(Transport(spec, command), timeout=timeout)
    except QCompileError as error:
        raise _explained(error, host) from None


def parse_host(spec: str, rest: str) -> SshHost:
    """Take apart what stands behind ``ssh:``.

    Raises:
        QCompileError: UNKNOWN_DEVICE.
    """
    match = _WHERE.fullmatch(rest)
    port = match["port"] if match else None
    if match is None or (port is not None and not 1 <= int(port) <= 65535):
        raise QCompileError(
            Code.UNKNOWN_DEVICE,
            f"{spec!r} names no host",
            hint=f"the form is {FORM}; what else ssh needs stands in its own configuration",
        )
    user = f"{match['user']}@" if match["user"] else ""
    return SshHost(
        user + (match["host"] or match["address"]),
        None if port is None else int(port),
        match["python"] or "python3",
    )


def ssh_command(host: SshHost, timeout: float) -> tuple[str, ...]:
    """The user's ``ssh`` up to the destination; a command for the shell there may follow.

    It never asks (a prompt would hang), forwards nothing, starts no master that outlives it, and
    notices a frozen connection by itself within the time-out, and within 45 seconds.
    """
    alive = max(1, min(15, int(timeout / 4)))
    options: Mapping[str, object] = {
        "BatchMode": "yes",
        "ConnectTimeout": max(1, min(15, int(timeout / 2))),
        "ServerAliveInterval": alive,
        "ServerAliveCountMax": 2,
        "ControlMaster": "no",
        "ClearAllForwardings": "yes",
        "PermitLocalCommand": "no",
        "RemoteCommand": "none",
    }
    said = [part for key, value in options.items() for part in ("-o", f"{key}={value}")]
    port = [] if host.port is None else ["-p", str(host.port)]
    return ("ssh", "-T", "-a", "-x", *said, *port, "--", host.destination)


def _explained(error: QCompileError, host: SshHost) -> QCompileError:
    """What a shell there says of a Python that it has not: exit codes 126 and 127."""
    if error.code is Code.DEVICE_LOST and re.search(r"\(exit code 12[67]\)", error.message):
        return QCompileError(
            Code.MISSING_RUNTIME,
            f"{error.message} (the Python asked for is {host.python})",
            hint=",python=COMMAND behind the host names another; it needs numpy and a runtime",
        )
    for words, hint in _HINTS.items():
        if words in error.message:
            return QCompileError(error.code, error.message, hint=hint)
    return error
