"""The whole list on the real models: what is left, that it computes the same, and in any order."""

import random
import time
from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.pipeline import prepare_passes
from qcompile.compiler.runner import find_fault
from qcompile.core.graph import fingerprint

pytestmark = pytest.mark.models

TOLERANCE = 3e-6
"""Largest difference of an output, relative to the largest output; 1.3e-6 was the most seen."""

SIZES = {"batch": 1, "sequence": 12, "total_sequence": 20, "past_sequence": 8}

CLEAN = {
    "mobilenet_v1/mobilenet_v1_0.75_224.onnx": {
        "Conv": 28, "Clip": 27, "GlobalAveragePool": 1, "Reshape": 1, "Softmax": 1,
    },
    "mlperf_tiny/resnet8_cifar10.onnx": {
        "Transpose": 1, "Conv": 9, "Relu": 7, "Add": 3, "AveragePool": 1, "Reshape": 1, "Gemm": 1,
        "Softmax": 1,
    },
    "mlperf_tiny/vww_96.onnx": {
        "Transpose": 1, "Conv": 27, "Relu": 27, "AveragePool": 1, "Reshape": 1, "Gemm": 1,
        "Softmax": 1,
    },
    "mlperf_tiny/kws_dscnn.onnx": {
        "Conv": 9, "Relu": 9, "AveragePool": 1, "Reshape": 2, "Gemm": 1, "Softmax": 1,
    },
    "mlperf_tiny/ad_autoencoder.onnx": {"Gemm": 10, "Relu": 9},
    "face/version-RFB-320.onnx": {
        "Add": 3, "Concat": 5, "Conv": 52, "Exp": 1, "Mul": 5, "Relu": 37, "Reshape": 8, "Slice": 4,
        "Softmax": 1, "Sub": 1, "Transpose": 8,
    },
}  # fmt: skip
"""Model -> every operator that is left of it."""

OTHERS = (
    "face/version-RFB-320_simplified.onnx", "llm/lm.onnx", "llm/lm_with_past.onnx",
    "silero_vad/silero_vad_16k_op15.onnx",
)  # fmt: skip


def outputs(model: ir.Model) -> list[np.ndarray]:
    """The outputs for seeded inputs, by ONNX Runtime with every optimization off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    voice = any(end.name == "sr" for end in session.get_inputs())
    sizes = {**SIZES, "sequence": 576} if voice else SIZES
    feeds = {
        end.name: feed(
            end.name,
            end.type,
            [sizes.get(d, 1) if isinstance(d, str) else d or 1 for d in end.shape],
        )
        for end in session.get_inputs()
    }
    return [np.asarray(output) for output in session.run(None, feeds)]


def feed(name: str, kind: str, shape: list[int]) -> np.ndarray:
    """Something the model can read: noise, tokens, positions or a sampling rate."""
    rng = np.random.default_rng(0)
    if "int64" not in kind:
        return rng.standard_normal(shape).astype(np.float32)
    if name == "sr":
        return np.full(shape, 16000)
    if name == "attention_mask":
        return np.ones(shape, np.int64)
    if name == "position_ids":
        return np.broadcast_to(np.arange(shape[-1]) + SIZES["past_sequence"], shape).copy()
    return rng.integers(0, 2000, shape)


def assert_same(before: list[np.ndarray], after: list[np.ndarray]) -> None:
    for a, b in zip(before, after, strict=True):
        assert a.shape == b.shape
        assert np.abs(a.astype(np.float64) - b).max() <= TOLERANCE * np.abs(a).max()


@pytest.mark.parametrize("name", [*CLEAN, *OTHERS])
def test_the_list_keeps_the_function_and_is_done_after_one_run(models_dir: Path, name: str):
    model = load_onnx(models_dir / name).model
    before = outputs(model)
    start = time.perf_counter()
    for step in prepare_passes():
        step(model)
        assert find_fault(model) is None
    assert time.perf_counter() - start < 1  # seconds; 0.01 was the most seen
    assert_same(before, outputs(model))
    once = fingerprint(model)
    assert not [type(step).__name__ for step in prepare_passes() if step(model).modified]
    assert fingerprint(model) == once
    if name in CLEAN:
        assert Counter(node.op_type for node in model.graph) == CLEAN[name]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "name", ["face/version-RFB-320.onnx", "mlperf_tiny/kws_dscnn.onnx", "llm/lm_with_past.onnx"]
)
def test_any_order_keeps_the_function(models_dir: Path, name: str, seed: int):
    model = load_onnx(models_dir / name).model
    before = outputs(model)
    steps = prepare_passes()
    random.Random(seed).shuffle(steps)
    for step in steps:
        step(model)
    assert_same(before, outputs(model))


def test_the_weights_of_kws_remember_their_integer_grid(models_dir: Path):
    model = load_onnx(models_dir / "mlperf_tiny/kws_dscnn.onnx").model
    for step in prepare_passes():
        step(model)
    on_grid = [
        v for v in model.graph.initializers.values() if "qcompile.grid_scale" in v.metadata_props
    ]
    assert len(on_grid) == 5
    for value in on_grid:
        assert value.const_value is not None
        scale = np.float32(value.metadata_props["qcompile.grid_scale"])
        integers = value.const_value.numpy() / scale
        assert np.abs(integers - np.round(integers)).max() < 1e-4
        assert np.abs(integers).max() <= 128
