"""A small sound model, written by hand, and a way to plant a fault in it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.schema import schema

X, CONV_WEIGHT, CONV_BIAS, CONV = 0, 1, 2, 3
OTHER, SUM, SHAPE, FLAT, FC_WEIGHT, FC_BIAS, FC, BOTH, SOFTMAX = range(4, 13)
"""Tensors."""
CONV_OP, ADD_OP, RESHAPE_OP, FC_OP, CONCAT_OP, SOFTMAX_OP = range(6)
"""Operators."""

_CONV = {
    "padding": 0,
    "strideH": 2,
    "strideW": 2,
    "dilationHFactor": 1,
    "dilationWFactor": 1,
    "fusedActivationFunction": 1,
}


def q(scale: float, zero: int = 0) -> Quantization:
    return Quantization.of(np.float32(scale), np.asarray(zero))


def sound(integer: str = "int8") -> bytes:
    """conv + relu, add a second input, reshape, fully connected, concatenation, softmax.

    With ``int16`` activations the biases are int64 and the zero points 0.
    """
    rng = np.random.default_rng(5)
    wide, bias, scale = integer == "int16", "int64" if integer == "int16" else "int32", 2.0**-15
    low = 0 if wide else -128
    b = Builder()
    weight_scale = np.array([0.01, 0.02, 0.015, 0.03], np.float32)
    b.tensor("x", (1, 4, 4, 2), integer, q(0.05, 0 if wide else 3))
    kernel = rng.integers(-127, 128, (4, 3, 3, 2)).astype(np.int8)
    b.tensor("w", kernel.shape, "int8", Quantization.of(weight_scale, np.zeros(4), 0), kernel)
    biases = Quantization.of(weight_scale * np.float32(0.05), np.zeros(4), 0)
    b.tensor("b", (4,), bias, biases, np.arange(4).astype(bias))
    b.tensor("conv", (1, 2, 2, 4), integer, q(0.1, low))
    b.tensor("other", (1, 2, 2, 4), integer, q(0.07))
    b.tensor("sum", (1, 2, 2, 4), integer, q(0.15, 0 if wide else -5))
    flat = np.array([1, 16], np.int32)
    b.tensor("shape", (2,), "int32", None, flat)
    b.tensor("flat", (1, 16), integer, q(0.15, 0 if wide else -5))
    matrix = rng.integers(-127, 128, (3, 16)).astype(np.int8)
    b.tensor("fw", matrix.shape, "int8", q(0.02), matrix)
    b.tensor("fb", (3,), bias, q(np.float32(0.15) * np.float32(0.02)), np.arange(3).astype(bias))
    b.tensor("fc", (1, 3), integer, q(0.2, 0 if wide else 4))
    b.tensor("both", (1, 6), integer, q(0.2, 0 if wide else 4))
    b.tensor("softmax", (1, 6), integer, q(scale) if wide else q(1 / 256, -128))
    b.operator("CONV_2D", [0, 1, 2], [3], Options("Conv2DOptions", _CONV), version=4 if wide else 3)
    adds = Options("AddOptions", {"potScaleInt16": False})
    b.operator("ADD", [3, 4], [5], adds, version=3 if wide else 2)
    b.operator("RESHAPE", [5, 6], [7], Options("ReshapeOptions", {"newShape": flat}))
    version = 7 if wide else 4
    fields = Options("FullyConnectedOptions", {})
    b.operator("FULLY_CONNECTED", [7, 8, 9], [10], fields, version=version)
    axis = Options("ConcatenationOptions", {"axis": 1})
    b.operator("CONCATENATION", [10, 10], [11], axis, version=3 if wide else 2)
    beta = Options("SoftmaxOptions", {"beta": 1.0})
    b.operator("SOFTMAX", [11], [12], beta, version=3 if wide else 2)
    return b.finish([X, OTHER], [SOFTMAX], names=(["x", "other"], ["softmax"]), description="sound")


def changed(data: bytes, change: Callable[[Any], None], identifier: bytes = b"TFL3") -> bytes:
    """The file after ``change`` was made to its ``ModelT`` of the schema's object interface."""
    import flatbuffers

    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAsModel(bytearray(data), 0))
    change(model)
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=identifier)
    return bytes(builder.Output())
