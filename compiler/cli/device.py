"""``qcompile device``: make an emulated ARM64 machine ready, list the devices, show what one is."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

import click

from qcompile.compiler.cli.streams import results
from qcompile.compiler.report.page import Page, Remark, Table
from qcompile.targets.devices.catalog import DEVICES, open_device
from qcompile.targets.devices.device import DeviceInfo
from qcompile.targets.devices.qemu_cpus import known_cpus
from qcompile.targets.devices.qemu_userland import (
    NAME,
    PREPARE,
    VARIABLE,
    Userland,
    cache_folder,
    find_userland,
)

_RUNTIMES: Final = {"onnxruntime": "ONNX Runtime", "tflite": "TFLite"}

_CACHE = click.option(
    "--cache",
    type=click.Path(path_type=Path, file_okay=False),
    envvar=VARIABLE,
    help=f"Folder of what can be made again [${VARIABLE}, else qcompile in the user's cache].",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group("device")
def command() -> None:
    """Make an emulated ARM64 machine ready, list the devices, or show what one is."""


@command.command("prepare", short_help="Make the emulated ARM64 machine ready.")
@click.option("--force", is_flag=True, help="Make it anew, even where it is ready.")
@click.option("--suite", metavar="NAME", help="Debian release to make it of [this machine's].")
@click.option("--mirror", metavar="ADDRESS", help="Debian archive [this machine's].")
@click.option(
    "--fetch-emulator", is_flag=True, help="Fetch qemu-aarch64 even where this machine has one."
)
@_CACHE
def prepare_command(
    force: bool, suite: str | None, mirror: str | None, fetch_emulator: bool, cache: Path | None
) -> None:
    """Make the emulated ARM64 machine for qemu:CPU, in a minute or so, without root.

    It takes Debian's packages through apt and, through pip, the runtimes' wheels for ARM64 in the
    versions that are installed here, so that results compare. Nothing is installed into the
    system. A machine that is ready already is left as it is.
    """
    from qcompile.targets.devices.qemu_prepare import Wishes, prepare

    wishes = Wishes(suite=suite, mirror=mirror, fetch_emulator=fetch_emulator)
    machine, made = prepare(
        wishes,
        force=force,
        cache=cache.absolute() if cache else None,
        say=lambda what: click.echo(f"{what} ...", err=True),
    )
    page = Page(
        "Emulated ARM64 machine, made" if made else "Emulated ARM64 machine, as it was",
        tuple(_facts(machine).items()),
        remarks=_counting(machine),
    )
    with results() as stream:
        _print(page, stream)


@command.command("list", short_help="List devices, and what is prepared.")
@_CACHE
@_JSON
def list_command(cache: Path | None, as_json: bool) -> None:
    """List the kinds of devices, and what is prepared for emulated ones."""
    machine = find_userland(cache)
    facts = _facts(machine) if machine else {}
    cpus = known_cpus(machine.emulator) if machine else ()
    with results() as stream:
        if as_json:
            data = {
                "kinds": dict(DEVICES),
                "prepared": {**facts, "cpus": cpus} if machine else None,
            }
            _write(data, stream)
            return
        kinds = Table("", ("kind", "what it is"), tuple(DEVICES.items()), whole=(0,))
        emulated: tuple[tuple[str, str], ...] = (
            ("emulated", f"nothing in {(cache or cache_folder()) / NAME}: {PREPARE} makes it"),
        )
        if machine:
            emulated = (*facts.items(), ("CPUs", ", ".join(f"qemu:{cpu}" for cpu in cpus)))
        remarks = (*_stale(machine), *_counting(machine)) if machine else ()
        _print(Page("Devices", emulated, (kinds,), remarks), stream)


@command.command("show", short_help="Show what a device is.")
@click.argument("spec")
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True,
              help="Seconds without an answer after which it is lost.")  # fmt: skip
@click.option("--runner", type=click.Path(path_type=Path, exists=True, dir_okay=False),
              help="Program that runs models there, for a device without Python.")  # fmt: skip
@_JSON
def show_command(spec: str, timeout: float, runner: Path | None, as_json: bool) -> None:
    """Open the device SPEC and show what it says of itself."""
    with open_device(spec, timeout=timeout, runner=runner) as device:
        info = device.info
    with results() as stream:
        if as_json:
            _write(_data(info), stream)
        else:
            _print(_shown(info), stream)


def _facts(machine: Userland) -> dict[str, str]:
    """What is prepared, in words."""
    manifest, emulator = machine.manifest, machine.manifest["emulator"]
    return {
        "folder": str(machine.folder),
        "system": f"Debian {manifest['suite']}, Python {manifest['python']}",
        "runtimes": ", ".join(f"{name} {v}" for name, v in machine.runtimes.items()),
        "emulator": f"QEMU {emulator['version']}, {emulator['path'] or 'its own'}",
    }


def _stale(machine: Userland) -> tuple[Remark, ...]:
    """Runtimes that are of another version here, whose results may differ for that alone."""
    from qcompile.targets.devices.qemu_wheels import host_runtimes

    there = machine.runtimes
    apart = [f"{name} {v}" for name, v in host_runtimes().items() if there.get(name) != v]
    if not apart:
        return ()
    return (Remark("warning", f"this machine has {', '.join(apart)}: {PREPARE} takes the same"),)


def _counting(machine: Userland) -> tuple[Remark, ...]:
    reason, hint = (machine.manifest["counter"][key] for key in ("reason", "hint"))
    if not reason:
        return (Remark("info", "instructions can be counted"),)
    text = f"instructions cannot be counted: {reason}" + (f" ({hint})" if hint else "")
    return (Remark("warning", text),)


def _shown(info: DeviceInfo) -> Page:
    runtimes = (f"{_RUNTIMES.get(name, name)}: {v}" for name, v in sorted(info.runtimes.items()))
    rows = {
        "machine": f"{info.machine}, {info.system}",
        "processor": info.cpu,
        "cores": str(info.cores),
        "features": ", ".join(sorted(info.features)) or "none that matters here",
        "runtimes": ", ".join(runtimes) or "none",
        "governor": info.governor,
        "temperature": "" if info.temperature is None else f"{info.temperature:.0f} °C",
    }
    remarks: tuple[Remark, ...] = ()
    if info.emulated:
        remarks = (Remark("info", "emulated: results are the CPU's, times mean nothing"),)
    return Page(info.spec, tuple((k, v) for k, v in rows.items() if v), remarks=remarks)


def _data(info: DeviceInfo) -> Mapping[str, object]:
    from dataclasses import asdict

    return {**asdict(info), "features": sorted(info.features)}


def _write(data: object, stream: IO[str]) -> None:
    json.dump(data, stream, indent=2, sort_keys=True, ensure_ascii=False)
    stream.write("\n")


def _print(page: Page, stream: IO[str]) -> None:
    from qcompile.compiler.report.table_view import print_page

    print_page(page, stream)
