"""Rounding with weights of 4 bits, by the float engine's own QDQ graph: what each rounder buys."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.pipeline import prepare_passes
from qcompile.compiler.runner import run_passes
from qcompile.core.graph import fingerprint
from qcompile.core.plan import QuantPlan
from qcompile.core.statistics.base import Statistics
from qcompile.passes.plan.activations import choose_activations, range_request
from qcompile.passes.plan.assign import assign_static
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.plan.values import plan_values
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.passes.rounding.bias_correction import mean_request
from qcompile.passes.rounding.graph_order import Rounder, round_and_correct
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.figures import Figures
from tests.models import imagenet
from tests.models.running import accuracy, agreement, session

pytestmark = [pytest.mark.models, pytest.mark.slow]

EXECUTOR = OrtExecutor()
TARGET = load_target("ort-x86-vnni")
SAMPLES = 64


@dataclass(frozen=True)
class Planned:
    """A float model, and a plan of it with weights of 4 bits and activations of 8."""

    model: ir.Model
    plan: QuantPlan
    statistics: Statistics
    feeds: Sequence[dict[str, np.ndarray]]

    def rounded(self, rounder: Rounder | None) -> QuantPlan:
        """The plan with its weights rounded and its biases corrected; as it is for None."""
        plan = replace(self.plan, values=dict(self.plan.values), corrections={}, rounded={})
        if rounder is not None:
            round_and_correct(
                self.model,
                plan,
                EXECUTOR,
                self.feeds,
                self.statistics,
                target=TARGET,
                rounder=rounder,
                threads=2,
            )
        return plan

    def outputs(self, plan: QuantPlan, x: np.ndarray) -> np.ndarray:
        """What the quantized model says of a batch of samples."""
        quantized = self.model.clone()
        InsertQDQ(plan)(quantized)
        loaded = EXECUTOR.load(quantized, threads=2, exact=True)
        name = loaded.input_names[0]
        return np.concatenate([loaded.run({name: sample[np.newaxis]})[0] for sample in x])


def in_four_bits(path: Path, calibration: np.ndarray) -> Planned:
    model = load_onnx(path, {}, static=False).model
    run_passes(model, prepare_passes())
    name = model.graph.inputs[0].name or ""
    feeds = [{name: x[np.newaxis]} for x in calibration]
    plan = QuantPlan(fingerprint(model), TARGET.name, "w8a8")
    plan.nodes = assign_static(model.graph, TARGET, {}).nodes
    plan_values(model.graph, plan, TARGET)
    for entry in list(plan.values.values()):
        if entry.role == "weight":
            plan.values[entry.name] = replace(entry, dtype="int4")
    method = MinMaxRange()
    request = range_request(model.graph, plan, TARGET, method)
    for value, wanted in mean_request(model.graph, plan, SAMPLES).items():
        request[value] = {**request.get(value, {}), **wanted}
    statistics = collect(EXECUTOR, model, request, feeds, threads=2)
    choose_activations(model.graph, plan, TARGET, method, "minmax", statistics)
    choose_weights(model.graph, plan, TARGET, "channel")
    fit_biases(model.graph, plan, TARGET.sum_bits)
    return Planned(model, plan, statistics, feeds[:SAMPLES])


def gain(
    planned: Planned, path: Path, x: np.ndarray, labels: np.ndarray, figures: Figures
) -> dict[str, float]:
    """Top-1 by rounder, with a line in the table for each."""
    loaded = session(path)
    name = loaded.get_inputs()[0].name
    before = np.concatenate([loaded.run(None, {name: s[np.newaxis]})[0] for s in x])
    found = {}
    for rounder in (None, "nearest", "gptq", "reconstruct"):
        after = planned.outputs(planned.rounded(rounder), x)  # type: ignore[arg-type]
        what = "nearest" if rounder is None else f"{rounder} + bias correction"
        found[what] = accuracy(after, labels)
        gate = "nearest + 0.05" if rounder == "reconstruct" else ""
        figures.add(
            path.name, f"top-1 in int4, {what}", accuracy(before, labels), found[what], gate
        )
        figures.add(path.name, f"agreement in int4, {what}", 1.0, agreement(before, after))
    return found


def test_resnet8(models_dir: Path, figures: Figures) -> None:
    folder = models_dir / "mlperf_tiny"
    calibration, test = (np.load(folder / f"cifar10_{s}.npz") for s in ("calibration", "test"))
    path = folder / "resnet8_cifar10.onnx"
    planned = in_four_bits(path, calibration["x"].astype(np.float32))
    found = gain(planned, path, test["x"].astype(np.float32), test["y"], figures)
    best = found["reconstruct + bias correction"]
    assert best >= found["nearest"] + 0.05
    assert best >= found["nearest + bias correction"] + 0.01
    assert best >= 0.735  # 0.76 in float


def test_mobilenet(models_dir: Path, figures: Figures) -> None:
    path = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    planned = in_four_bits(path, imagenet.load(imagenet.calibration(models_dir)))
    pictures = imagenet.evaluation(models_dir)
    found = gain(planned, path, imagenet.load(pictures), imagenet.labels(pictures), figures)
    best = found["reconstruct + bias correction"]
    assert best >= found["nearest"] + 0.05
    assert best >= found["nearest + bias correction"] + 0.05
