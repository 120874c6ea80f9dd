"""What calibration costs on top of the float inference that it cannot do without.

``python -m tests.benchmarks.calibration_cost`` prints ratios to bare inference, interleaved in one
run, and peak memory for few and for many samples. It needs the real models (QCOMPILE_MODELS).
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
from PIL import Image

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.runner import run_passes
from qcompile.core.statistics.base import StatisticRequest
from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.mean_tensor import MeanTensor
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.passes.prepare.fold_affine import FoldAffine
from qcompile.passes.prepare.fold_batch_norm import FoldBatchNorm
from qcompile.passes.prepare.fold_constants import FoldConstants
from qcompile.passes.prepare.fold_pad import FoldPad
from qcompile.passes.prepare.simplify_clip import SimplifyClip
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.conftest import find_models

ROUNDS = 5
SAMPLES = 125
FEW, MANY = 32, 512
ACTIVATIONS = ("Relu", "Clip")


class Pictures(Sequence[Mapping[str, np.ndarray]]):
    """The calibration pictures, read when asked for; over again beyond the last."""

    def __init__(self, folder: Path, count: int) -> None:
        self.files = [f for f in sorted(folder.glob("*.jpg")) if int(f.name[:4]) % 8 == 0]
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        with Image.open(self.files[index % len(self.files)]) as picture:
            x = np.asarray(picture.convert("RGB"), np.float32)[16:240, 16:240]
        return {"input": np.ascontiguousarray(x.transpose(2, 0, 1)[None] / 127.5 - 1)}


def folded(models: Path) -> ir.Model:
    model = load_onnx(models / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx").model
    run_passes(model, [FoldConstants(), FoldBatchNorm(), FoldAffine(), FoldPad(), SimplifyClip()])
    return model


def values(model: ir.Model) -> dict[str, bool]:
    """What integer nodes will read: value name -> whether it is known not to be negative."""
    found = {value.name: False for value in model.graph.inputs}
    for node in model.graph:
        value = node.outputs[0]
        followers = {use.node.op_type for use in value.uses()}
        if node.op_type in ACTIVATIONS:
            found[value.name] = True
        elif node.op_type in ("Conv", "GlobalAveragePool") and not followers & set(ACTIVATIONS):
            found[value.name] = node.op_type == "GlobalAveragePool"
    return {name: nonnegative for name, nonnegative in found.items() if name is not None}


def request(model: ir.Model, method: str, mean_of: int = 0) -> StatisticRequest:
    """Ranges of all values; with ``mean_of`` also the means bias correction needs of a layer's
    input: of each channel for a 1x1 convolution, else of the whole tensor.
    """
    wanted = {
        name: RANGE_METHODS[method]().statistics(nonnegative)
        for name, nonnegative in values(model).items()
    }
    for node in model.graph if mean_of else ():
        if node.op_type == "Conv":
            pointwise = set(node.inputs[1].shape[2:]) == {1}
            mean = partial(ChannelMean, 1, mean_of) if pointwise else partial(MeanTensor, mean_of)
            wanted.setdefault(node.inputs[0].name or "", {})["mean"] = mean
    return wanted


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_ratios(models: Path) -> None:
    model = folded(models)
    pictures = Pictures(models / "imagenet", SAMPLES)
    feeds = [pictures[i] for i in range(SAMPLES)]
    session = OrtExecutor().load(model, threads=1)

    def bare() -> None:
        for sample in feeds:
            session.run(sample)

    def gather(method: str, mean_of: int = 0, threads: int = 1) -> Callable[[], object]:
        wanted = request(model, method, mean_of)
        return lambda: collect(OrtExecutor(), model, wanted, feeds, threads=threads)

    load = partial(OrtExecutor().load, model, list(request(model, "minmax")), threads=1)
    rows: dict[str, Callable[[], object]] = {
        "bare inference": bare,
        "min-max": gather("minmax"),
        "percentile (histograms)": gather("percentile"),
        "min-max, means of 64": gather("minmax", mean_of=64),
        "percentile, means of 64": gather("percentile", mean_of=64),
    }
    if len(os.sched_getaffinity(0)) > 1:
        rows["min-max, means of 64, 2 threads"] = gather("minmax", mean_of=64, threads=2)
    times: dict[str, list[float]] = {name: [] for name in (*rows, "load")}
    bare()
    for _ in range(ROUNDS):
        for name, work in rows.items():
            times[name].append(seconds(work))
        times["load"].append(seconds(load))
    loading = statistics.median(times.pop("load"))
    reference = statistics.median(times["bare inference"])
    print(f"{SAMPLES} samples, one at a time; ratio without / with loading the model")
    for name, found in times.items():
        took = statistics.median(found)
        extra = 0.0 if name == "bare inference" else loading
        print(
            f"  {name:33} {(took - extra) / SAMPLES * 1e3:7.2f} ms a sample"
            f"  {(took - extra) / reference:5.2f}  {took / reference:5.2f}"
        )


def peak_memory(models: Path, samples: int, method: str) -> int:
    """Peak resident bytes of a fresh process that calibrates on so many samples."""
    command = [sys.executable, "-m", __spec__.name, "--memory", str(samples), "--method", method]
    environment = {**os.environ, "QCOMPILE_MODELS": str(models)}
    return int(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)


def print_peak(models: Path, samples: int, method: str) -> None:
    model = folded(models)
    wanted = request(model, method, mean_of=64)
    collect(OrtExecutor(), model, wanted, Pictures(models / "imagenet", samples), threads=2)
    # not ru_maxrss: a child begins with the peak of the parent that forked it
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(int(peak[1]) * 1024 if peak else 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--memory", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--method", default="percentile", help=argparse.SUPPRESS)
    options = parser.parse_args()
    models = find_models()
    if models is None:
        sys.exit("set QCOMPILE_MODELS to the folder of real models")
    if options.memory:
        print_peak(models, options.memory, options.method)
        return
    time_ratios(models)
    print("peak memory, 2 threads, means of 64 samples")
    for method in ("minmax", "percentile"):
        few, many = (peak_memory(models, n, method) for n in (FEW, MANY))
        print(
            f"  {method:12} {FEW} samples {few / 1e6:5.0f} MB, {MANY} samples {many / 1e6:5.0f} MB,"
            f" ratio {many / few:.3f}"
        )


if __name__ == "__main__":
    main()
