"""Chains of equal layers, of which the costs of operators are measured."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


@dataclass(frozen=True)
class Case:
    """A chain of one kind of layer."""

    kind: str
    """As ``region_costs.kind_of`` names it."""
    work: int
    """Of one layer, as ``region_costs.work_of`` has it."""
    make: Callable[[int], onnx.ModelProto]
    """The chain of so many layers."""
    scheme: str = "w8a8"
    border: int = 0
    """Elements of the values between its layers, where it is to say what borders cost."""


_ELEMENTWISE: Final = {"add": "Add", "mul": "Mul", "pool": "AveragePool", "sigmoid": "Sigmoid"}
_OPERANDS: Final = {"add": 2, "mul": 2}


_CONVOLUTIONS: Final = (
    ("conv-thin", 3, ((4, 12), (8, 24), (8, 48))),
    ("conv", 3, ((16, 14), (32, 14), (64, 28), (128, 28))),
    ("pointwise-thin", 1, ((8, 4), (32, 4), (16, 24), (16, 48))),
    ("pointwise", 1, ((64, 7), (64, 14), (128, 28), (256, 28))),
    ("depthwise", 3, ((16, 8), (64, 14), (128, 28), (128, 56))),
    ("grouped", 3, ((32, 14), (64, 28), (128, 28))),
)
"""Kind, kernel, and channels and side of its chains."""


def cases() -> Iterator[Case]:
    """What is measured."""
    for kind, kernel, sizes in _CONVOLUTIONS:
        for channels, side in sizes:
            group = {"depthwise": channels, "grouped": 4}.get(kind, 1)
            yield convolution(kind, channels, side, kernel, group, borders=kernel == 1)
    for width in (32, 64, 128, 256, 512, 1024):
        yield product("gemv", width, width, 1)
    for wide, narrow in ((128, 8), (512, 32), (640, 128), (2048, 256)):
        yield product("gemv-narrowing", wide, narrow, 1)
        yield product("gemv-widening", narrow, wide, 1)
    for width, rows in ((64, 16), (128, 32), (384, 64), (1024, 32)):
        yield product("gemm", width, width, rows)
        yield product("dynamic", width, width, rows, "w8a8-dynamic")
    for kind in _ELEMENTWISE:
        for channels, side in ((16, 8), (64, 14), (64, 56)):
            yield elementwise(kind, channels, side)


def convolution(
    kind: str, channels: int, side: int, kernel: int, group: int, *, borders: bool = False
) -> Case:
    """Convolutions with Relu, as many channels in as out."""
    work = channels * (channels // group) * kernel * kernel * side * side
    make = partial(_convolutions, channels, side, kernel, group)
    return Case(kind, work, make, border=channels * side * side * borders)


def _convolutions(
    channels: int, side: int, kernel: int, group: int, layers: int
) -> onnx.ModelProto:
    nodes, constants, rng = [], [], np.random.default_rng(0)
    for i in range(layers):
        weight = rng.normal(size=(channels, channels // group, kernel, kernel))
        weight /= np.sqrt(weight[0].size)
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        constants.append(numpy_helper.from_array(np.full(channels, 0.1, np.float32), f"b{i}"))
        pads = [kernel // 2] * 4
        names = [f"v{i}", f"w{i}", f"b{i}"]
        nodes.append(helper.make_node("Conv", names, [f"c{i}"], f"n{i}", pads=pads, group=group))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"v{i + 1}"], f"r{i}"))
    return _model(nodes, constants, [1, channels, side, side], layers)


def product(kind: str, inputs: int, outputs: int, rows: int, scheme: str = "w8a8") -> Case:
    """Fully connected layers; where they are not square, branches from one input."""
    return Case(kind, inputs * outputs * rows, partial(_products, inputs, outputs, rows), scheme)


def _products(inputs: int, outputs: int, rows: int, layers: int) -> onnx.ModelProto:
    nodes, constants, rng = [], [], np.random.default_rng(0)
    for i in range(layers):
        weight = rng.normal(size=(inputs, outputs)) / np.sqrt(inputs)
        constants.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        constants.append(numpy_helper.from_array(np.full(outputs, 0.1, np.float32), f"b{i}"))
        read = f"v{i}" if inputs == outputs else "v0"
        nodes.append(helper.make_node("Gemm", [read, f"w{i}", f"b{i}"], [f"v{i + 1}"], f"n{i}"))
    first = layers if inputs == outputs else 1
    results = [_end(f"v{i}", [rows, outputs]) for i in range(first, layers + 1)]
    graph = helper.make_graph(nodes, "chain", [_end("v0", [rows, inputs])], results, constants)
    return _of(graph)


def elementwise(kind: str, channels: int, side: int) -> Case:
    """One operator without weights."""
    work = channels * side * side * (9 if kind == "pool" else 1)
    return Case(kind, work, partial(_elementwise, kind, channels, side))


def _elementwise(kind: str, channels: int, side: int, layers: int) -> onnx.ModelProto:
    attributes = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]} if kind == "pool" else {}
    nodes = []
    for i in range(layers):
        read = [f"v{i}", "v0"][: _OPERANDS.get(kind, 1)]
        nodes.append(
            helper.make_node(_ELEMENTWISE[kind], read, [f"v{i + 1}"], f"n{i}", **attributes)
        )
    return _model(nodes, [], [1, channels, side, side], layers)


def _model(
    nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto], shape: list[int], layers: int
) -> onnx.ModelProto:
    ends = [_end("v0", shape)], [_end(f"v{layers}", shape)]
    return _of(helper.make_graph(nodes, "chain", *ends, constants))


def _end(name: str, shape: list[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _of(graph: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
