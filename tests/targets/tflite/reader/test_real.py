"""The real .tflite files: float ones come back as they were, quantized ones keep every scale."""

from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import onnx_ir as ir
import onnxruntime as ort
import pytest

import qcompile
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.tflite import convert_tflite
from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.reader.quantizing import is_quantized
from qcompile.targets.tflite.reading import Graph, Tensor, read_graph
from qcompile.targets.tflite.runtime import TfliteSession
from tests.targets.tflite.lowering import TARGET
from tests.targets.tflite.reader.reading import proto_of

pytestmark = pytest.mark.models

FLOAT = {"resnet8_cifar10": 255.0, "vww_96": 1.0, "ad_autoencoder": 1.0}
"""Model -> the largest number that it is fed."""
QUANTIZED = (
    "mobilenet_v2/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "mlperf_tiny/resnet8_cifar10_int8_peer.tflite",
    "mlperf_tiny/vww_96_int8_peer.tflite",
    "mlperf_tiny/kws_dscnn_int8_peer.tflite",
    "mlperf_tiny/ad_autoencoder_int8_peer.tflite",
)
CLOSE = 1e-5
"""Of the output's largest magnitude."""


def noise(graph: Graph, high: float = 1.0, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for index in graph.inputs:
        tensor = graph.tensors[index]
        if tensor.dtype == "float32":
            feeds[tensor.name] = rng.uniform(0, high, tensor.shape).astype(np.float32)
        else:
            info = np.iinfo(tensor.dtype)
            whole = rng.integers(info.min, info.max, tensor.shape, endpoint=True)
            feeds[tensor.name] = whole.astype(tensor.dtype)
    return feeds


def run(data: bytes, feeds: dict[str, np.ndarray], kernels: str = "reference") -> np.ndarray:
    session = TfliteSession(data, kernels)  # type: ignore[arg-type]
    return session.run(dict(zip(session.input_names, feeds.values(), strict=True)))[0]


@pytest.mark.parametrize("name", FLOAT)
def test_float_files_come_back(models_dir: Path, name: str, tmp_path: Path) -> None:
    source, out = models_dir / f"mlperf_tiny/{name}.tflite", tmp_path / "back.tflite"
    qcompile.build(source, target="tflite-x86", scheme="float", out=out, latency=False)
    first, again = source.read_bytes(), out.read_bytes()
    assert "TRANSPOSE" not in {op.name for op in read_graph(again).operators}
    graph = read_graph(first)
    assert [read_graph(again).tensors[i].name for i in read_graph(again).inputs] == [
        graph.tensors[i].name for i in graph.inputs
    ]
    for seed in range(4):
        feeds = noise(graph, FLOAT[name], seed)
        for kernels in ("reference", "xnnpack"):
            wanted, given = run(first, feeds, kernels), run(again, feeds, kernels)
            assert np.abs(wanted - given).max() <= CLOSE * np.abs(wanted).max()


def test_a_hybrid_file_is_the_model_that_its_weights_say(models_dir: Path, tmp_path: Path) -> None:
    """Its kernels quantize the data as they run; the ONNX of the same weights does not."""
    source, out = models_dir / "mlperf_tiny/kws_dscnn.tflite", tmp_path / "back.tflite"
    data = np.load(models_dir / "mlperf_tiny/kws_evaluation.npz")["x"][:32]
    twin = ort.InferenceSession(str(models_dir / "mlperf_tiny/kws_dscnn.onnx"))
    (wanted,) = twin.run(None, {twin.get_inputs()[0].name: data})
    made = ort.InferenceSession(proto_of(source.read_bytes()).SerializeToString())
    (given,) = made.run(None, {made.get_inputs()[0].name: data})
    assert np.abs(wanted - given).max() <= CLOSE * np.abs(wanted).max()
    qcompile.build(source, target="tflite-x86", scheme="float", out=out, latency=False)
    back = TfliteSession(out.read_bytes(), "reference")
    for sample, expected in zip(data, wanted, strict=True):
        (result,) = back.run({back.input_names[0]: sample[None]})
        assert np.abs(result[0] - expected).max() <= CLOSE * np.abs(wanted).max()


# --- scales ----------------------------------------------------------------------------------

Parameters = tuple[tuple[float, ...], tuple[int, ...]]


def parameters_of(tensor: Tensor) -> Parameters:
    q = tensor.quantization
    assert q is not None
    zeros = np.broadcast_to(q.zero_point if q.zero_point.size else 0, q.scale.shape)
    return tuple(q.scale.tolist()), tuple(int(z) for z in zeros)


def kept(proto: onnx.ModelProto) -> dict[str, Parameters]:
    """Tensor of the file -> the parameters of its dequantizer, and of its quantizer if it has one.

    Both must agree.
    """
    known = {i.name: onnx.numpy_helper.to_array(i) for i in proto.graph.initializer}
    found: dict[str, Parameters] = {}
    for node in proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = known[node.input[1]].reshape(-1)
        zero = known[node.input[2]].reshape(-1) if len(node.input) > 2 else np.zeros(scale.size)
        told = tuple(scale.tolist()), tuple(int(z) for z in zero)
        name = node.output[0].removesuffix("_dequantized").removesuffix("_quantized")
        assert found.setdefault(name, told) == told, name
    return found


@pytest.mark.parametrize("name", QUANTIZED)
def test_every_scale_and_zero_point_is_kept(models_dir: Path, name: str) -> None:
    data = (models_dir / name).read_bytes()
    graph = read_graph(data)
    read = {i for op in graph.operators for i in (*op.inputs, *op.outputs) if i >= 0}
    wanted = {
        graph.tensors[i].name: parameters_of(graph.tensors[i])
        for i in sorted(read)
        if is_quantized(graph.tensors[i])
    }
    found = kept(proto_of(data))
    assert len(wanted) > 20
    assert {n: found.get(n) for n in wanted} == wanted


@pytest.mark.parametrize("name", QUANTIZED)
def test_written_again_they_are_equal_bit_by_bit(
    models_dir: Path, name: str, tmp_path: Path
) -> None:
    """With no pass between reader and writer: the file's operators, scales and outputs."""
    path = models_dir / name
    made = convert_tflite(str(path), tmp_path, ImportOptions())
    model: ir.Model = load_onnx(made.onnx, static=True, allow_integer=True).model
    first, again = path.read_bytes(), lower(model, TARGET)
    graph = read_graph(first)
    assert [op.name for op in read_graph(again).operators] == [op.name for op in graph.operators]
    for seed in range(2):
        feeds = noise(graph, seed=seed)
        np.testing.assert_array_equal(run(first, feeds), run(again, feeds))
