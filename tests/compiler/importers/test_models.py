"""The real models: what comes out of the importer computes what the file computes, to the bit."""

import time
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.runner import find_fault
from tests.compiler.importers.build import run, same

pytestmark = pytest.mark.models

SIZES = {"batch": 2, "sequence": 7, "past_sequence": 5, "total_sequence": 12}
"""What a named dimension is in these tests; any other is 2."""

MODELS = {
    "mobilenet_v1/mobilenet_v1_0.75_224.onnx": (),
    "mlperf_tiny/resnet8_cifar10.onnx": (),
    "mlperf_tiny/vww_96.onnx": (),
    "mlperf_tiny/kws_dscnn.onnx": (),
    "mlperf_tiny/ad_autoencoder.onnx": (),
    "face/version-RFB-320.onnx": (),
    "face/version-RFB-320_simplified.onnx": (),
    "silero_vad/silero_vad_16k_op15.onnx": ("If", "If", "If", "If", "If"),
    "llm/lm.onnx": (),
    "llm/lm_outlier.onnx": (),
    "llm/lm_with_past.onnx": (),
    "llm/lm_outlier_with_past.onnx": (),
}
"""File -> operators of the nodes that must stay float."""


def feeds(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = {**SIZES, **({"batch": 1, "sequence": 576} if "silero" in path.name else {})}
    result: dict[str, np.ndarray] = {}
    proto = onnx.load(path)
    held = {tensor.name for tensor in proto.graph.initializer}
    for info in proto.graph.input:
        if info.name in held:
            continue
        dims = info.type.tensor_type.shape.dim
        shape = [d.dim_value or sizes.get(d.dim_param, 2) for d in dims]
        if info.name == "sr":
            result[info.name] = np.asarray(16000)
        elif info.name == "attention_mask":
            result[info.name] = np.ones(shape, np.int64)
        elif info.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            result[info.name] = rng.integers(0, 50, shape)
        else:
            result[info.name] = rng.standard_normal(shape).astype(np.float32)
    return result


@pytest.mark.parametrize("name", MODELS)
def test_function_is_kept_to_the_bit(name: str, models_dir: Path) -> None:
    path = models_dir / name
    imported = load_onnx(path)
    assert find_fault(imported.model) is None
    kinds = {node.name: node.op_type for node in imported.model.graph}
    assert tuple(kinds[node] for node in imported.float_nodes) == MODELS[name]
    given = feeds(path)
    before = run(path, given)
    assert all(np.isfinite(output).all() for output in before)
    assert same(before, run(imported.model, given))


@pytest.mark.parametrize(
    "name", ["face/version-RFB-320.onnx", "face/version-RFB-320_simplified.onnx"]
)
def test_detectors_have_no_shape_left_to_compute(name: str, models_dir: Path) -> None:
    imported = load_onnx(models_dir / name)
    ops = {node.op_type for node in imported.model.graph}
    assert not ops & {"Shape", "Gather", "Unsqueeze", "Constant"}
    shapes = [output.shape for node in imported.model.graph for output in node.outputs]
    assert all(shape is not None and shape.is_static() for shape in shapes)


def test_silero_can_be_made_static(models_dir: Path) -> None:
    path = models_dir / "silero_vad" / "silero_vad_16k_op15.onnx"
    imported = load_onnx(path, {"input": (1, 576)}, static=True)
    assert [spec.shape for spec in imported.signature.inputs] == [(1, 576), (2, 1, 128), ()]
    given = feeds(path)
    assert same(run(path, given), run(imported.model, given))


def test_mobilenet_is_imported_in_no_time(models_dir: Path) -> None:
    """Half a second is the budget; it takes a twentieth of that."""
    path = models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx"
    times = []
    for _ in range(3):
        started = time.perf_counter()
        load_onnx(path)
        times.append(time.perf_counter() - started)
    assert min(times) < 0.5
