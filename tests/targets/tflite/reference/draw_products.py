"""Random convolutions and matrix products."""

from typing import Any

import numpy as np

from qcompile.targets.tflite.builder import Options
from tests.targets.tflite.reference.draw import Draw, ints
from tests.targets.tflite.reference.one_op import OneOp, Spec


def conv(d: Draw) -> OneOp:
    groups = d.whole(1, 2)
    inner, outer = groups * d.whole(1, 4), groups * d.whole(1, 4)
    kernel = d.whole(1, 3), d.whole(1, 3)
    return convolution(d, "CONV_2D", inner, outer, (outer, *kernel, inner // groups), 0)


def depthwise(d: Draw) -> OneOp:
    inner, multiplier = d.whole(1, 5), d.whole(1, 3)
    outer = inner * multiplier
    return convolution(
        d, "DEPTHWISE_CONV_2D", inner, outer, (1, d.whole(1, 3), d.whole(1, 3), outer), 3
    )


def convolution(d: Draw, op: str, inner: int, outer: int, form: Any, axis: int) -> OneOp:
    table = {"CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions"}[op]
    dilation = d.whole(1, 2)
    shape = (d.whole(1, 2), d.whole(5, 9), d.whole(5, 9), inner)
    fields = {
        "padding": d.whole(0, 1),
        "strideH": (stride := 1 if dilation > 1 else d.whole(1, 2)),
        "strideW": stride,
        "dilationHFactor": dilation,
        "dilationWFactor": dilation,
        "fusedActivationFunction": d.whole(0, 3),
    }
    if axis == 3:
        fields["depthMultiplier"] = outer // inner
    weights, bias = weight_and_bias(d, form, outer, axis, x := d.spec(shape, d.scale(-7, -4)))
    return OneOp(
        op,
        [x, weights, bias],
        [d.spec(scale=output_scale(d, x))],
        {"in0": d.array(shape)},
        Options(table, fields),
    ).shaped()


def output_scale(d: Draw, x: Spec) -> Any:
    return d.scale(-6, 3) if not d.wide else d.scale(-3, 0) * np.float32(2**-4)


def weight_and_bias(d: Draw, form: Any, outer: int, axis: int, x: Spec) -> tuple[Spec, Spec]:
    if d.real:
        w, b = d.array(form), d.array((outer,))
        return Spec(w.shape, d.dtype, data=w), Spec(b.shape, d.dtype, data=b)
    data = d.rng.integers(-127, 128, form).astype(np.int8)
    scale = d.scale(-10, -6, None if d.whole(0, 3) == 0 else outer)
    kind = "int64" if d.wide else "int32"
    bias = d.rng.integers(-4000, 4000, outer).astype(kind)
    return (
        Spec(data.shape, "int8", scale, 0, axis, data),
        Spec(bias.shape, kind, np.float32(x.scale) * scale, 0, 0, bias),
    )


def transpose_conv(d: Draw) -> OneOp:
    inner, outer, kernel, stride = (
        d.whole(1, 4),
        d.whole(1, 4),
        (d.whole(1, 3), d.whole(1, 3)),
        d.whole(1, 2),
    )
    shape = (1, d.whole(2, 5), d.whole(2, 5), inner)
    padding = d.whole(0, 1)
    sizes = [
        shape[1 + i] * stride
        if padding == 0
        else (shape[1 + i] - 1) * stride + max(kernel[i], stride)
        for i in (0, 1)
    ]
    weights, bias = weight_and_bias(
        d, (outer, *kernel, inner), outer, 0, x := d.spec(shape, d.scale(-7, -4))
    )
    fields = {"padding": padding, "strideH": stride, "strideW": stride}
    return OneOp(
        "TRANSPOSE_CONV",
        [ints([1, *sizes, outer]), weights, x, bias],
        [d.spec(scale=output_scale(d, x))],
        {"in2": d.array(shape)},
        Options("TransposeConvOptions", fields),
        version=3,
    ).shaped()


def fully_connected(d: Draw) -> OneOp:
    rows, inner, outer = d.whole(1, 4), d.whole(1, 40), d.whole(1, 8)
    weights, bias = weight_and_bias(d, (outer, inner), outer, 0, x := d.spec((rows, inner)))
    fields = {"fusedActivationFunction": d.whole(0, 3), "keepNumDims": False}
    return OneOp(
        "FULLY_CONNECTED",
        [x, weights, bias if d.whole(0, 1) else None],
        [d.spec(scale=output_scale(d, x))],
        {"in0": d.array((rows, inner))},
        Options("FullyConnectedOptions", fields),
        version=4,
    ).shaped()


def batch_matmul(d: Draw, constant: bool = False) -> OneOp:
    batch, rows, inner, columns = d.whole(1, 3), d.whole(1, 5), d.whole(1, 12), d.whole(1, 5)
    adj = bool(d.whole(0, 1)) and not constant
    x = d.spec((batch, rows, inner))
    form = (columns, inner) if adj else (inner, columns)
    form = form if constant else (batch, *form)
    # XNNPACK takes it where the second has the zero point 0.
    y = d.spec(form, d.scale(-9, -6), 0 if constant or d.whole(0, 1) else None)
    data = d.array(form)
    fed = {"in0": d.array(x.shape)}
    if constant:
        y = Spec(form, y.dtype, y.scale, 0, 0, data)
    else:
        fed["in1"] = data
    fields = {"adjX": False, "adjY": adj}
    return OneOp(
        "BATCH_MATMUL",
        [x, y],
        [d.spec(scale=output_scale(d, x))],
        fed,
        Options("BatchMatMulOptions", fields),
        version=2,
    ).shaped()


def batch_matmul_constant(d: Draw) -> OneOp:
    return batch_matmul(d, constant=True)
