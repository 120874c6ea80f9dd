"""The real models, float and int8: no TRANSPOSE, sizes, time, and what they compute."""

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.pipeline import prepare_passes
from qcompile.compiler.runner import run_passes
from qcompile.targets.tflite.lower import lower
from tests.passes.planning import planned, session
from tests.targets.tflite.lowering import TARGET, deviation, lowered, noise

pytestmark = pytest.mark.models

MODELS = {
    "mobilenet_v1/mobilenet_v1_0.75_224.onnx": {"MEAN": 1, "RESHAPE": 1, "SOFTMAX": 1},
    "mlperf_tiny/resnet8_cifar10.onnx": {"MEAN": 1, "RESHAPE": 1, "SOFTMAX": 1, "ADD": 3},
    "mlperf_tiny/vww_96.onnx": {"MEAN": 1, "RESHAPE": 1, "SOFTMAX": 1},
    "mlperf_tiny/kws_dscnn.onnx": {"MEAN": 1, "SOFTMAX": 1},
    "mlperf_tiny/ad_autoencoder.onnx": {"FULLY_CONNECTED": 10},
    "face/version-RFB-320.onnx": {"CONCATENATION": 5, "SOFTMAX": 1},
    "face/version-RFB-320_simplified.onnx": {"CONCATENATION": 3, "SOFTMAX": 1},
}
"""Model -> how often some operators occur, in either form."""
ALLOWED_STEPS = 3
"""XNNPACK rounds once where the QDQ graph divides: 1 step a layer, and more where they meet."""


def canonical(path: Path) -> ir.Model:
    model = load_onnx(path, {}, static=True).model
    run_passes(model, prepare_passes())
    return model


def quantized(model: ir.Model) -> ir.Model:
    """Ranges from noise: enough to see what is written, not how accurate it is."""
    made = planned(model, [noise(model, seed) for seed in range(3)], target=TARGET, ends="int8")
    assert not [n.name for n in made.model.graph if made.plan.mode(n.name) == "float"]
    return made.qdq([v.name or "" for v in (*model.graph.inputs, *model.graph.outputs)])


def check_ops(found: Mapping[str, int], wanted: Mapping[str, int]) -> None:
    assert found.get("TRANSPOSE", 0) == 0
    assert {op: found.get(op, 0) for op in wanted} == wanted


@pytest.mark.parametrize("name", MODELS)
def test_float(models_dir: Path, name: str) -> None:
    model = canonical(models_dir / name)
    run, feeds = lowered(model), noise(model)
    check_ops(run.count, MODELS[name])
    assert not run.lowered.notes
    for got, want in zip(run.outputs(feeds, "xnnpack"), session(model).run(feeds), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * max(1, np.abs(want).max()))


@pytest.mark.parametrize("name", MODELS)
def test_int8(models_dir: Path, name: str) -> None:
    model = canonical(models_dir / name)
    qdq = quantized(model)
    run, feeds = lowered(qdq), {}
    check_ops(run.count, MODELS[name])
    assert {"QUANTIZE", "DEQUANTIZE", "RELU", "RELU6"}.isdisjoint(run.count)
    assert not run.lowered.notes
    for end in run.lowered.ends.inputs:
        assert end.quantization is not None
        real = noise(model)[end.name] / end.quantization.scale[0]
        feeds[end.name] = np.clip(np.rint(real) + end.quantization.zero_point[0], -128, 127)
        feeds[end.name] = feeds[end.name].astype(np.int8)
    for got, want in zip(run.outputs(feeds, "xnnpack"), session(qdq).run(feeds), strict=True):
        assert deviation(got, want).lsb <= ALLOWED_STEPS


def test_mobilenet_is_small_and_written_at_once(models_dir: Path) -> None:
    path = models_dir / "mobilenet_v1/mobilenet_v1_0.75_224.onnx"
    qdq = quantized(canonical(path))
    start = time.process_time()
    data = lower(qdq, TARGET)
    assert time.process_time() - start < 1.0
    assert len(data) <= 0.265 * path.stat().st_size
    assert data == lower(qdq, TARGET)


def test_a_hundred_megabytes_are_written_in_seconds() -> None:
    """Twelve different float matrices of 9 MB."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 21}, name="g")
    x = ir.Value(name="x", shape=ir.Shape((1, 1536)), type=ir.TensorType(ir.DataType.FLOAT))
    graph.inputs.append(x)
    rng, last = np.random.default_rng(0), x
    for number in range(12):
        w = ir.Value(
            name=f"w{number}",
            const_value=ir.tensor(rng.random((1536, 1536), np.float32)),
            shape=ir.Shape((1536, 1536)),
            type=ir.TensorType(ir.DataType.FLOAT),
        )
        graph.register_initializer(w)
        node = ir.node("MatMul", [last, w], name=f"n{number}")
        last = node.outputs[0]
        last.name, last.shape, last.type = f"y{number}", x.shape, x.type
        graph.append(node)
    graph.outputs.append(last)
    model = ir.Model(graph, ir_version=10)
    start = time.process_time()
    data = lower(model, TARGET)
    assert time.process_time() - start < 5.0
    assert len(data) > 12 * 1536 * 1536 * 4
