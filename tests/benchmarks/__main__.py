"""``make bench``: the figures of the project beside ONNX Runtime's own tool, all from one run.

python -m tests.benchmarks [--models FOLDER] [--target NAME] [BENCHMARK ...]
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import onnxruntime as ort
from rich.console import Console

from qcompile.targets.host import features, host_target
from tests.benchmarks.workshop import ROOT, Workshop
from tests.conftest import MODELS_VARIABLE, find_models

BENCHMARKS = (
    "accuracy",
    "latency",
    "build_time",
    "memory",
    "calibration_cost",
    "never_slower",
    "arm",
    "tflite_peers",
    "accuracy_peers",
    "weights_only",
)
"""Modules of this folder with ``tables(shop) -> list[Table]``, or that print by themselves."""


def main() -> int:
    """Run the benchmarks that are named, or all of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("benchmark", nargs="*", help=f"any of {', '.join(BENCHMARKS)}")
    parser.add_argument("--models", type=Path, default=find_models(), help="the real models")
    parser.add_argument("--target", default=host_target(), help="what to build for [this machine]")
    options = parser.parse_args()
    chosen = options.benchmark or BENCHMARKS
    unknown = sorted(set(chosen) - set(BENCHMARKS))
    if unknown:
        return _fail(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if options.models is None:
        return _fail(f"the benchmarks need the real models: set {MODELS_VARIABLE} to their folder")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(
        f"{platform.machine()} with {', '.join(sorted(features())) or 'unknown features'}; "
        f"onnxruntime {ort.__version__}, numpy {np.__version__}, Python {sys.version.split()[0]}; "
        f"target {options.target}; a shared machine: read ratios, not times"
    )
    with tempfile.TemporaryDirectory() as scratch:
        shop = Workshop(options.models.resolve(), Path(scratch), options.target)
        for name in chosen:
            run(name, shop, console)
    return 0


def run(name: str, shop: Workshop, console: Console) -> None:
    """One benchmark; its own program where it is one, so that it starts with empty memory."""
    module = import_module(f"tests.benchmarks.{name}")
    if hasattr(module, "tables"):
        for table in module.tables(shop):
            console.print(table)
        return
    console.print(f"\n[italic]{module.__doc__.splitlines()[0]}")
    command = [sys.executable, "-m", module.__name__]
    environment = {**os.environ, MODELS_VARIABLE: str(shop.models)}
    subprocess.run(command, cwd=ROOT, env=environment, check=True)


def _fail(message: str) -> int:
    print(message, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
