"""Lets a search within a budget of time measure on the device that the build names."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from qcompile.compiler.devices import fits
from qcompile.compiler.mixed.records import Setting
from qcompile.compiler.mixed.stopwatch import on_device
from qcompile.compiler.options import BuildOptions
from qcompile.targets.devices.catalog import open_device


@contextmanager
def timed_where_asked(
    options: BuildOptions, source: Path, floats: ir.Model, setting: Setting
) -> Iterator[Setting]:
    """The setting, its artefacts timed on the first device while the block lasts.

    Without a budget of time or without a device it is the setting as it is. Of several targets that
    is timed which the device is made for.

    Args:
        options: of the build.
        source: the user's float model.
        floats: the canonical float graph.
        setting: with one artefact a target.

    Raises:
        QCompileError: as ``open_device`` and ``stopwatch.on_device``.
    """
    devices, feeds = options.devices, setting.timed
    if options.max_latency is None or not devices.specs or feeds is None:
        yield setting
        return
    opened = open_device(devices.specs[0], timeout=devices.timeout, runner=devices.runner)
    with opened as device:
        made = sorted(setting.artefacts, key=lambda one: not fits(device.info, one.target))
        watch = on_device(device, made[0].target, source, floats, feeds)
        yield replace(setting, artefacts=[replace(made[0], watch=watch), *made[1:]])
