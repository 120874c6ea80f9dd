"""The devices that a user can name."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.device import Device
from qcompile.targets.devices.remote import DEFAULT_TIMEOUT

Opener = Callable[[str, str, float, Path | None], Device]
"""Opens a device by what the user called it, what of it stands behind the colon, the time-out in
seconds, and the native runner to drive there."""

DEVICES: Final[Mapping[str, str]] = {
    "local": "this machine; local:/path/to/python for another interpreter on it",
    "qemu": "an emulated ARM64 CPU, qemu:cortex-a53; `qcompile device prepare` makes it ready",
    "ssh": "ssh:user@host[:port] through your own ssh; ,python=COMMAND for another Python there",
    "adb": "adb:SERIAL, through your own adb, with --runner; or a board's own Python",
}
"""Kind -> what it is, for messages and help."""


def open_device(
    spec: str, *, timeout: float = DEFAULT_TIMEOUT, runner: Path | None = None
) -> Device:
    """Open a device; a ``with`` block closes it.

    Args:
        spec: a kind of ``DEVICES`` and, behind a colon, which one.
        timeout: seconds without progress after which it is lost.
        runner: a program of the device's own kind that runs models there instead of the agent, for
            devices without Python.

    Raises:
        QCompileError: UNKNOWN_DEVICE with the list of kinds, or with what is wrong behind the
            colon; BAD_OPTION for a runner where none is driven; DEVICE_LOST where none answers.
    """
    kind, colon, rest = spec.partition(":")
    opener = _OPENERS.get(kind)
    if opener is None or (colon and not rest):
        known = "; ".join(f"{name}: {what}" for name, what in DEVICES.items())
        raise QCompileError(Code.UNKNOWN_DEVICE, f"there is no device {spec!r}", hint=known)
    return opener(spec, rest, timeout, runner)


def _local(spec: str, rest: str, timeout: float, runner: Path | None) -> Device:
    from qcompile.targets.devices.local import open_local

    if runner is not None and not rest:
        from qcompile.targets.devices.links import local_link
        from qcompile.targets.devices.runners.opening import open_runner

        return open_runner(local_link(spec), runner, timeout=timeout)
    _no_runner(spec, runner)
    return open_local(spec, rest, timeout=timeout)


def _ssh(spec: str, rest: str, timeout: float, runner: Path | None) -> Device:
    from qcompile.targets.devices.ssh import open_ssh, parse_host, ssh_command

    if runner is not None:
        from qcompile.targets.devices.links import ssh_link
        from qcompile.targets.devices.runners.opening import open_runner

        command = ssh_command(parse_host(spec, rest), timeout)
        return open_runner(ssh_link(spec, command, timeout=timeout), runner, timeout=timeout)
    return open_ssh(spec, rest, timeout=timeout)


def _qemu(spec: str, rest: str, timeout: float, runner: Path | None) -> Device:
    from qcompile.targets.devices.qemu import open_qemu

    _no_runner(spec, runner)
    return open_qemu(spec, rest, timeout=timeout)


def _adb(spec: str, rest: str, timeout: float, runner: Path | None) -> Device:
    from qcompile.targets.devices.adb import open_adb

    return open_adb(spec, rest, timeout=timeout, runner=runner)


def _no_runner(spec: str, runner: Path | None) -> None:
    if runner is not None:
        raise QCompileError(Code.BAD_OPTION, f"{spec} drives no runner", hint="leave --runner out")


_OPENERS: Final[Mapping[str, Opener]] = {
    "local": _local,
    "qemu": _qemu,
    "ssh": _ssh,
    "adb": _adb,
}
