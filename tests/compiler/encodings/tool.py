"""Quantizes a model by ONNX Runtime's own tool under overrides, and reads what came out."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from qcompile.compiler.encodings.overrides import for_tool

Scales = dict[str, tuple[np.ndarray, np.ndarray]]

_ENDS = ("_quantized", "_QuantizeLinear_Input")
"""What the tool appends to the name of a constant, and to that of an output of the model."""


class _Noise(CalibrationDataReader):  # type: ignore[misc]  # a class without types
    """Samples of any numbers: ranges that overrides give are not looked for in them."""

    def __init__(self, name: str, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self._samples: Iterator[dict[str, np.ndarray]] = iter(
            [{name: rng.normal(size=shape).astype(np.float32)} for _ in range(2)]
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._samples, None)


def scales_of_the_tool(model: Path, overrides: Path, out: Path, shape: tuple[int, ...]) -> Scales:
    """Tensor -> scales and zero points that stand in the QDQ model that the tool writes."""
    table = json.loads(overrides.read_text())
    quantize_static(
        model,
        out,
        _Noise(onnx.load(model).graph.input[0].name, shape),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        per_channel=True,
        extra_options={"TensorQuantOverrides": for_tool(table, QuantType)},
    )
    return scales_in(out)


def scales_in(path: Path) -> Scales:
    """Scales and zero points of the quantizers and quantized constants of a QDQ model."""
    graph = onnx.load(path).graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        is_constant = node.op_type == "DequantizeLinear" and node.input[0] in constants
        if node.op_type != "QuantizeLinear" and not is_constant:
            continue
        name = node.input[0]
        for end in _ENDS:
            name = name.removesuffix(end)
        zero = constants[node.input[2]] if len(node.input) > 2 else np.zeros((), np.int64)
        found[name] = (constants[node.input[1]], zero.astype(np.int64))
    return found
