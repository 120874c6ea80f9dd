"""The SQNR of every layer's output, where it parts from the float model."""

import numpy as np
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.compiler.report.model import LayerQuality
from qcompile.compiler.verify.layers import layer_quality, worst
from qcompile.core.numerics.affine import dequantize
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.compiler import small


def feeds(count: int) -> list[dict[str, np.ndarray]]:
    with np.load(small.DIGITS / "test.npz") as data:
        x = data["input"][:count].astype(np.float32) / 16
    return [{"input": one[None]} for one in x]


@pytest.fixture(scope="module")
def parts() -> tuple[object, ...]:
    result = small.digits()
    model = prepare(load_onnx(small.DIGITS / "digits.onnx"), Scheme())
    return OrtExecutor(), model, result.plan, result.qdq


def test_each_quantized_output_is_compared_in_graph_order(parts: tuple[object, ...]) -> None:
    layers = layer_quality(*parts, feeds(6))  # type: ignore[arg-type]
    assert [layer.op for layer in layers] == [
        *["Conv"] * 4, "MaxPool", "GlobalAveragePool", "Flatten", "Gemm", "Softmax",
    ]  # fmt: skip
    assert all(20 < layer.sqnr_db < 80 for layer in layers)


def test_the_figure_is_signal_over_noise_of_all_samples(parts: tuple[object, ...]) -> None:
    executor, model, plan, qdq = parts
    samples = feeds(5)
    layers = layer_quality(*parts, samples)  # type: ignore[arg-type]
    value = "02_Relu"
    (quantized,) = [
        n.outputs[0].name
        for n in qdq.graph
        if n.metadata_props.get("qcompile.value") == value  # type: ignore[attr-defined]
    ]
    floats = executor.load(model, [value])  # type: ignore[attr-defined]
    integers = executor.load(qdq, [quantized], exact=True)  # type: ignore[attr-defined]
    params = plan.values[value].params  # type: ignore[attr-defined]
    signal = noise = 0.0
    for sample in samples:
        (y,), (q,) = floats.run(sample), integers.run(sample)
        error = dequantize(q, params.scale, params.zero_point).astype(np.float64) - y
        signal += float(np.square(y.astype(np.float64)).sum())
        noise += float(np.square(error).sum())
    assert layers[0].sqnr_db == pytest.approx(10 * np.log10(signal / noise), abs=1e-6)


def test_threads_change_nothing(parts: tuple[object, ...]) -> None:
    one, three = (layer_quality(*parts, feeds(7), threads=n) for n in (1, 3))  # type: ignore[arg-type]
    assert one == three


def test_nothing_to_look_at(parts: tuple[object, ...]) -> None:
    executor, model, plan, _ = parts
    assert layer_quality(*parts, []) == []  # type: ignore[arg-type]
    assert layer_quality(executor, model, plan, model, feeds(2)) == []  # type: ignore[arg-type]


def test_a_quantized_model_is_held_against_itself_with_its_own_quantizers(
    parts: tuple[object, ...],
) -> None:
    """What its ranges cut off is no error: without them it is another function."""
    executor, model, plan, qdq = parts
    far = [{"input": 40 * one["input"]} for one in feeds(3)]
    plain = layer_quality(*parts, far)  # type: ignore[arg-type]
    own = layer_quality(executor, model, plan, qdq, far, own=plan)  # type: ignore[arg-type]
    assert min(layer.sqnr_db for layer in plain) < 10
    assert {layer.sqnr_db for layer in own} == {np.inf}
    assert not worst(own)


def test_the_worst_come_first() -> None:
    layers = [LayerQuality(node=str(i), op="Conv", sqnr_db=db) for i, db in enumerate([9, 3, 7, 5])]
    assert [layer.sqnr_db for layer in worst(layers, 3)] == [3, 5, 7]
    assert len(worst(layers)) == 4
