"""Opens a device with a native runner: one that times, or one that speaks the agent's protocol."""

import shlex
from pathlib import Path

from qcompile.targets.devices.device import Device
from qcompile.targets.devices.remote import AgentDevice, Transport
from qcompile.targets.devices.runners.device import RunnerDevice
from qcompile.targets.devices.runners.install import Sent, identify, send
from qcompile.targets.devices.runners.table import SPEAKS
from qcompile.targets.devices.shell import Link, Shell


class NativeAgent(AgentDevice):
    """A device on which a program of its own kind speaks the agent's protocol."""

    def __init__(self, shell: Shell, sent: Sent, *, timeout: float) -> None:
        self._shell = shell
        words = [f"{name}={value}" for name, value in sent.environment.items()]
        command = shlex.join([*(["env", *words] if words else []), sent.path])
        start = shell.link.command(f"exec {command}")
        super().__init__(Transport(shell.spec, start), timeout=timeout)

    def close(self) -> None:
        """End the program and remove it."""
        super().close()
        self._shell.close()


def open_runner(link: Link, runner: Path, *, timeout: float) -> Device:
    """Send a runner to a device and drive it; what was sent goes when the device is closed.

    Args:
        link: how the device is reached; closed with it.
        runner: the program, on this machine.
        timeout: seconds without an answer after which the device is lost.

    Raises:
        QCompileError: BAD_OPTION when the runner cannot be read; DEVICE_UNFIT when it is not known
            or does not run there; DEVICE_LOST.
    """
    shell = Shell(link, timeout=timeout)
    try:
        sent = send(shell, runner)
        if SPEAKS in sent.help_text:
            return NativeAgent(shell, sent, timeout=timeout)
        return RunnerDevice(shell, identify(sent), timeout=timeout)
    except BaseException:
        shell.close()
        raise
