"""Quantized TFLite files in and out again: every scale kept, every output bit the same."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import build
from qcompile.core.backend import Backend
from qcompile.core.ends import FloatEnds
from qcompile.targets.backends import backend_of
from tests.figures import Figures
from tests.models import imagenet
from tests.models.running import agreement

FILES = (
    "mobilenet_v2/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "mlperf_tiny/resnet8_cifar10_int8_peer.tflite",
    "mlperf_tiny/vww_96_int8_peer.tflite",
    "mlperf_tiny/kws_dscnn_int8_peer.tflite",
    "mlperf_tiny/ad_autoencoder_int8_peer.tflite",
)
SAMPLES = 4


def _outputs(backend: Backend, model: Path | bytes, middle: list[np.ndarray]) -> np.ndarray:
    """Outputs for integers counted from the middle of the input's type, by reference kernels."""
    facts, session = backend.facts(model), backend.open(model, kernels="reference")
    one, end = facts.inputs[0], facts.outputs[0]
    shift = {"uint8": 128}.get(one.dtype, 0)
    found = [session.run({one.name: (x + shift).astype(one.dtype)})[0] for x in middle]
    return np.stack(found).astype(int) - {"uint8": 128}.get(end.dtype, 0)


@pytest.mark.models
@pytest.mark.litert
@pytest.mark.parametrize("name", FILES)
def test_a_quantized_tflite_file_comes_back_bit_by_bit(models_dir: Path, name: str) -> None:
    path, backend = models_dir / name, backend_of("tflite")
    made = build(path, target="tflite-x86", latency=False)
    assert not [n for n in made.report.notes if n.level == "warning"]
    shape = [d if isinstance(d, int) else 1 for d in backend.facts(path).inputs[0].shape or ()]
    rng = np.random.default_rng(0)
    middle = [rng.integers(-128, 128, shape) for _ in range(SAMPLES)]
    before, after = (_outputs(backend, model, middle) for model in (path, made.artefact))
    assert np.array_equal(before, after)


@pytest.mark.models
@pytest.mark.litert
@pytest.mark.parametrize("target", ["ort-x86-vnni", "ort-x86-avx2"])
@pytest.mark.parametrize("name", FILES)
def test_on_onnx_runtime_every_scale_stays_and_every_layer_fuses(
    models_dir: Path, name: str, target: str
) -> None:
    made = build(models_dir / name, target=target, latency=False)
    assert not [n for n in made.report.notes if n.level == "warning"]
    layers = [row for row in made.report.coverage.ops if row.op in ("Conv", "Gemm", "MatMul")]
    assert layers and not any(row.float for row in layers)
    kinds = {e.role: e.rule for e in made.plan.values.values() if e.role == "weight"}
    assert kinds == {"weight": "imported"}


@pytest.mark.models
@pytest.mark.litert
@pytest.mark.slow
def test_on_onnx_runtime_it_is_the_original(models_dir: Path, figures: Figures) -> None:
    """Under the original's default kernels; its reference kernels part from those more often."""
    path = models_dir / FILES[0]
    made = build(path, target="ort-x86-vnni", latency=False)
    sides = [(backend_of("tflite"), path), (backend_of("onnxruntime"), made.artefact)]
    opened = [FloatEnds(b.open(m, exact=True), b.facts(m).ends) for b, m in sides]  # type: ignore[arg-type]
    name = made.report.model.inputs[0].name
    x = imagenet.load(imagenet.evaluation(models_dir)).transpose(0, 2, 3, 1)
    p = [np.stack([side.run({name: one[None]})[0][0] for one in x]) for side in opened]
    same = float(np.mean(p[0] == p[1]))
    figures.add(path.stem, "ORT, agreement of 625", 1.0, agreement(*p), ">= 0.99")
    figures.add(path.stem, "ORT, values equal to the last bit", 1.0, same, ">= 0.999")
    assert agreement(*p) >= 0.99
    assert same >= 0.999
