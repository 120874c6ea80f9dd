"""Small files for tests of the reader."""

import numpy as np

from qcompile.targets.tflite.builder import Builder, Options

CONV = {"padding": 0, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
RNG = np.random.default_rng(3)


def finish(b: Builder, inputs: list[int], outputs: list[int]) -> bytes:
    names = ([b.tensors[i].name for i in inputs], [b.tensors[i].name for i in outputs])
    return b.finish(inputs, outputs, names=names, description="t")


def network(signature: tuple[int, ...] | None = None) -> bytes:
    """conv + relu6, pool, add of itself, mean, reshape, fully connected: floats."""
    b = Builder()
    x = b.tensor("x", (1, 4, 6, 3), "float32", signature=signature)
    w = b.tensor("w", (8, 3, 3, 3), "float32", None, noise(8, 3, 3, 3))
    bias = b.tensor("b", (8,), "float32", None, noise(8))
    conv = b.tensor("conv", (1, 4, 6, 8), "float32")
    b.operator(
        "CONV_2D",
        [x, w, bias],
        [conv],
        Options("Conv2DOptions", {**CONV, "fusedActivationFunction": 3}),
    )
    pooled = b.tensor("pool", (1, 2, 3, 8), "float32")
    b.operator("MAX_POOL_2D", [conv], [pooled], Options("Pool2DOptions", POOL))
    total = b.tensor("add", (1, 2, 3, 8), "float32")
    b.operator("ADD", [pooled, pooled], [total], Options("AddOptions", {}))
    axes = b.tensor("axes", (2,), "int32", None, np.array([1, 2], np.int32))
    mean = b.tensor("mean", (1, 1, 1, 8), "float32")
    b.operator("MEAN", [total, axes], [mean], Options("ReducerOptions", {"keepDims": True}))
    shape = b.tensor("shape", (2,), "int32", None, np.array([-1, 8], np.int32))
    flat = b.tensor("flat", (1, 8), "float32")
    b.operator("RESHAPE", [mean, shape], [flat], Options("ReshapeOptions", {}))
    matrix = b.tensor("m", (5, 8), "float32", None, noise(5, 8))
    y = b.tensor("y", (1, 5), "float32")
    b.operator("FULLY_CONNECTED", [flat, matrix, -1], [y], Options("FullyConnectedOptions", {}))
    return finish(b, [x], [y])


def noise(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)
