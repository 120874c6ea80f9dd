"""Calibration of real models: probes and threads do not change a byte."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.calibration import probes
from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.pipeline import prepare_passes
from qcompile.compiler.runner import run_passes
from qcompile.core.statistics.histogram import Histogram
from qcompile.core.statistics.min_max import MinMax
from qcompile.passes.plan.activations import is_nonnegative
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.core.statistics.splits import assert_same_bytes

pytestmark = pytest.mark.models


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("mobilenet_v1/mobilenet_v1_0.75_224.onnx", (1, 3, 224, 224)),
        ("face/version-RFB-320.onnx", (1, 3, 240, 320)),
        ("mlperf_tiny/resnet8_cifar10.onnx", (1, 32, 32, 3)),
        ("mlperf_tiny/ad_autoencoder.onnx", (1, 640)),
    ],
)
def test_probes_and_threads(
    models_dir: Path, name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_onnx(models_dir / name).model
    run_passes(model, prepare_passes())
    values = [
        v for node in model.graph for v in node.outputs if v.name and v.dtype == ir.DataType.FLOAT
    ]
    request = {
        v.name: {"minmax": partial(MinMax, is_nonnegative(v)), "histogram": Histogram}
        for v in values
    }
    random = np.random.default_rng(0)
    samples: list[Mapping[str, np.ndarray]] = [
        {model.graph.inputs[0].name: random.uniform(-1, 1, shape).astype(np.float32)}
        for _ in range(5)
    ]
    probed = collect(OrtExecutor(), model, request, samples, threads=2)
    monkeypatch.setattr(probes, "LARGE", 1 << 40)
    plain = collect(OrtExecutor(), model, request, samples, threads=1)
    for value, statistics in plain.items():
        for key, statistic in statistics.items():
            assert_same_bytes(statistic.state(), probed[value][key].state())
