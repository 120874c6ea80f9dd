"""What equalization and smoothing are worth: one scale a weight, and norms with outliers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.compiler.planning import complete, correction_samples, empty_plan
from qcompile.compiler.quantizing import quantize
from qcompile.core.intersection import unsigned
from qcompile.passes.plan.activations import range_request
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.rounding.bias_correction import correct_biases, mean_request
from qcompile.passes.transform.table import find_transforms, transformed
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.decoding import perplexity
from tests.figures import Figures
from tests.models import imagenet
from tests.models.running import accuracy, run, session, sqnr

pytestmark = [pytest.mark.models, pytest.mark.slow]

Feeds = Sequence[Mapping[str, np.ndarray]]
TARGET = unsigned(load_target("ort-x86-vnni"))
EXECUTOR = OrtExecutor()


def canonical(path: Path) -> ir.Model:
    return prepare(load_onnx(path, {}, static=False), Scheme())


def after(model: ir.Model, names: Sequence[str], feeds: Feeds, granularity: str) -> ir.Model:
    """The model after its transforms."""
    found = find_transforms(
        model, names, lambda m, request: collect(EXECUTOR, m, request, feeds), granularity
    )
    return transformed(model, found)


def built(model: ir.Model, feeds: Feeds, granularity: str) -> bytes:
    """The QDQ graph: min-max ranges, biases corrected in graph order."""
    scheme = Scheme(granularity=granularity)
    plan = empty_plan(model, TARGET, scheme, {})
    request = range_request(model.graph, plan, TARGET, MinMaxRange())
    count = correction_samples(model, plan, len(feeds))
    for name, wanted in mean_request(model.graph, plan, count).items():
        request[name] = {**request.get(name, {}), **wanted}
    statistics = collect(EXECUTOR, model, request, feeds)
    complete(model, plan, TARGET, scheme, statistics)
    correct_biases(model, plan, EXECUTOR, feeds[:count], statistics, threads=2)
    return serialized(quantize(model, plan))


def serialized(model: ir.Model) -> bytes:
    proto: bytes = ir.to_proto(model).SerializeToString()
    return proto


def test_mobilenet_with_one_scale_a_weight(models_dir: Path, figures: Figures) -> None:
    """Without equalization it loses 30 points, with a tool that corrects nothing 75."""
    model = canonical(models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx")
    x = imagenet.load(imagenet.calibration(models_dir))
    feeds = [{"input": x[i : i + 1]} for i in range(len(x))]
    equalized = after(model, ["equalize"], feeds, "tensor")
    artefact = built(equalized, feeds, "tensor")
    del x, feeds
    paths = imagenet.evaluation(models_dir)
    pictures, labels = imagenet.load(paths), imagenet.labels(paths)
    p = run(session(serialized(model)), pictures)
    same = sqnr(p, run(session(serialized(equalized)), pictures))
    got = run(session(artefact, exact=True), pictures)
    before, now = accuracy(p, labels), accuracy(got, labels)
    figures.add("MobileNet, per tensor, equalized", "top-1", before, now, "loss <= 0.03")
    figures.add("MobileNet equalized, in float", "SQNR, dB", "inf", same, ">= 40")
    assert before - now <= 0.03
    assert same >= 40


@pytest.mark.parametrize(("name", "most"), [("lm_outlier", 22.15), ("lm", 22.15)])
def test_language_models_with_static_activations(
    name: str, most: float, models_dir: Path, figures: Figures, text_rows: np.ndarray
) -> None:
    """Static scales cost the one with outliers 4.6 without smoothing; ORT's own tool 4.0."""
    folder = models_dir / "llm"
    model = canonical(folder / f"{name}.onnx")
    rows = np.load(folder / "calibration.npz")["input_ids"][:48].astype(np.int64)
    feeds = [{"input_ids": row[np.newaxis]} for row in rows]
    smoothed = after(model, ["smooth"], feeds, "channel")
    floats = [session(serialized(one), exact=True) for one in (model, smoothed)]
    before = perplexity(floats[0], text_rows)
    now = perplexity(session(built(smoothed, feeds, "channel"), exact=True), text_rows)
    figures.add(name, "perplexity, static w8a8, smoothed", before, now, f"<= {most}")
    assert before == pytest.approx(22.037, abs=0.005)
    assert perplexity(floats[1], text_rows[:2]) == pytest.approx(
        perplexity(floats[0], text_rows[:2]), rel=1e-5
    )
    assert now <= most
