"""Small QDQ models, built op by op, and what ONNX Runtime's optimizer makes of them."""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ACTIVATION_SCALE = 0.1
WEIGHT_SCALE = 0.01


class Builder:
    """Collects nodes, initializers and ends; values are named as they come."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self._made = 0

    def constant(self, array: Any) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(
        self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any
    ) -> list[str]:
        names = [f"v{self._made + i}" for i in range(outputs)]
        self._made += outputs
        self.nodes.append(helper.make_node(op, inputs, names, name=names[0], **attributes))
        return names

    def input(self, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> str:
        name = f"x{len(self.inputs)}"
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, value: str, dtype: int = TensorProto.FLOAT) -> None:
        self.outputs.append(helper.make_tensor_value_info(value, dtype, None))

    def quantized(self, value: str, scale: float = ACTIVATION_SCALE, zero: int = 10) -> str:
        """``value`` behind QuantizeLinear and DequantizeLinear to uint8."""
        pair = [self.constant(np.float32(scale)), self.constant(np.uint8(zero))]
        return self.node(
            "DequantizeLinear", [self.node("QuantizeLinear", [value, *pair])[0], *pair]
        )[0]

    def activation(
        self, shape: Sequence[int | str], scale: float = ACTIVATION_SCALE, zero: int = 10
    ) -> str:
        return self.quantized(self.input(shape), scale, zero)

    def stored(self, integers: np.ndarray, scale: Any, zero: Any, axis: int | None = None) -> str:
        """A constant kept as integers behind DequantizeLinear."""
        named = {} if axis is None else {"axis": axis}
        zeros = np.full(np.shape(scale), zero, integers.dtype)
        inputs = [self.constant(a) for a in (integers, np.asarray(scale, np.float32), zeros)]
        return self.node("DequantizeLinear", inputs, **named)[0]

    def weight(self, shape: Sequence[int], axis: int | None, dtype: str = "int8") -> str:
        integers = (np.arange(np.prod(shape)) % 100).reshape(shape).astype(dtype)
        scale = WEIGHT_SCALE if axis is None else np.full(shape[axis], WEIGHT_SCALE)
        return self.stored(integers, scale, 0 if dtype == "int8" else 128, axis)

    def bias(self, size: int, per_channel: bool = True) -> str:
        step = np.float32(ACTIVATION_SCALE) * np.float32(WEIGHT_SCALE)
        scale = np.full(size, step) if per_channel else step
        return self.stored(np.zeros(size, np.int32), scale, 0, 0 if per_channel else None)

    def model(self, opset: int = 21, ir_version: int = 10) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, "g", self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=ir_version)


def session(
    model: onnx.ModelProto, optimized: str | None = None, precise: bool = False
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    if optimized is not None:
        options.optimized_model_filepath = optimized
    providers = ["CPUExecutionProvider"]
    return ort.InferenceSession(model.SerializeToString(), options, providers=providers)


@dataclass(frozen=True)
class Optimized:
    """The graph that ONNX Runtime runs."""

    graph: onnx.GraphProto

    def ops(self) -> list[str]:
        return [node.op_type for node in self.graph.node]

    def runs_integer(self, kernels: Sequence[str]) -> bool:
        """Whether one of the kernels is there and reads its first operand as integers."""
        maker = {name: node.op_type for node in self.graph.node for name in node.output}
        return any(
            node.op_type in kernels and maker.get(node.input[0]) != "DequantizeLinear"
            for node in self.graph.node
        )


def optimize(model: onnx.ModelProto) -> Optimized:
    """Load a model and read back what the optimizer made of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "optimized.onnx")
        session(model, path)
        return Optimized(onnx.load(path).graph)
