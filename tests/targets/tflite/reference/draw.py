"""Random models of one operator: one function an operator, listed in tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qcompile.targets.tflite.builder import Options
from tests.targets.tflite.reference.one_op import OneOp, Spec


@dataclass(frozen=True)
class Draw:
    """A generator with the type of the activations and the kind of scales.

    On power-of-two scales ties are frequent.
    """

    rng: np.random.Generator
    powers: bool = False
    dtype: str = "int8"

    @property
    def wide(self) -> bool:
        return self.dtype == "int16"

    def whole(self, low: int, high: int) -> int:
        """From low to high, both included."""
        return int(self.rng.integers(low, high + 1))

    def scale(self, low: float = -7, high: float = -2, size: Any = None) -> Any:
        if self.powers:
            return np.float32(2.0) ** self.rng.integers(int(low), int(high) + 1, size)
        return np.exp2(self.rng.uniform(low, high, size)).astype(np.float32)

    def zero(self) -> int:
        if self.wide:
            return 0
        limits = np.iinfo(self.dtype)
        return self.whole(limits.min, limits.max)

    def shape(self, rank: int = 4, largest: int = 7) -> tuple[int, ...]:
        return (self.whole(1, 2), *(self.whole(1, largest) for _ in range(rank - 1)))

    def array(self, shape: Sequence[int], dtype: str | None = None) -> np.ndarray:
        kind = np.dtype(dtype or self.dtype)
        limits = np.iinfo(kind)
        return self.rng.integers(limits.min, limits.max + 1, tuple(shape)).astype(kind)

    def spec(self, shape: Sequence[int] = (1,), scale: Any = None, zero: int | None = None) -> Spec:
        return Spec(
            tuple(shape),
            self.dtype,
            self.scale() if scale is None else scale,
            self.zero() if zero is None else zero,
        )


def ints(values: Any) -> Spec:
    data = np.asarray(values, np.int32)
    return Spec(data.shape, "int32", data=data)


def unary(
    d: Draw, op: str, options: Options | None = None, *, out: Spec | None = None, **scales: Any
) -> OneOp:
    shape = d.shape()
    x = d.spec(shape, **scales)
    made = d.spec() if out is None else out
    return OneOp(op, [x], [made], {"in0": d.array(shape)}, options).shaped()


def same(
    d: Draw, op: str, options: Options | None, *rest: Spec, shape: Any = None, outputs: int = 1
) -> OneOp:
    """An operator that moves elements: its outputs have the parameters of its input."""
    shape = d.shape() if shape is None else shape
    x = d.spec(shape)
    outs = [Spec((1,), x.dtype, x.scale, x.zero)] * outputs
    return OneOp(op, [x, *rest], outs, {"in0": d.array(shape)}, options).shaped()


# --- sums of products ------------------------------------------------------------------------------


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
    return d.scale(-6, -1) if not d.wide else d.scale(-3, 0) * np.float32(2**-4)


def weight_and_bias(d: Draw, form: Any, outer: int, axis: int, x: Spec) -> tuple[Spec, Spec]:
    data = d.rng.integers(-127, 128, form).astype(np.int8)
    scale = d.scale(-10, -6, None if d.whole(0, 3) == 0 else outer)
    scales = np.float32(x.scale) * scale
    kind = "int64" if d.wide else "int32"
    bias = d.rng.integers(-4000, 4000, outer).astype(kind)
    return (
        Spec(data.shape, "int8", scale, 0, axis, data),
        Spec(bias.shape, kind, scales, 0, 0, bias),
    )


def transpose_conv(d: Draw) -> OneOp:
    inner, outer, kernel, stride = d.whole(1, 4), d.whole(1, 4), (d.whole(1, 3), d.whole(1, 3)), d.whole(1, 2)
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
    y = d.spec(form, d.scale(-9, -6), 0 if constant else None)
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


# --- two operands ----------------------------------------------------------------------------------


def binary(d: Draw, op: str, options: Options | None, version: int, shared: bool = False) -> OneOp:
    shape = d.shape()
    other = tuple(1 if d.whole(0, 2) == 0 else n for n in shape)
    if d.whole(0, 4) == 0:
        other = (shape[-1],)
    first = d.spec(shape)
    second = Spec(other, d.dtype, first.scale, first.zero) if shared else d.spec(other)
    out = Spec((1,), d.dtype, first.scale, first.zero) if shared else d.spec(scale=d.scale(-7, 1))
    fed = {"in0": d.array(shape), "in1": d.array(other)}
    return OneOp(op, [first, second], [out], fed, options, version).shaped()


def add(d: Draw, op: str = "ADD", table: str = "AddOptions") -> OneOp:
    fields = {"fusedActivationFunction": d.whole(0, 3), "potScaleInt16": False}
    return binary(d, op, Options(table, fields), 3 if d.wide else 2)


def sub(d: Draw) -> OneOp:
    return add(d, "SUB", "SubOptions")


def mul(d: Draw) -> OneOp:
    fields = {"fusedActivationFunction": d.whole(0, 3)}
    return binary(d, "MUL", Options("MulOptions", fields), 4 if d.wide else 2)


def squared_difference(d: Draw) -> OneOp:
    return binary(d, "SQUARED_DIFFERENCE", Options("SquaredDifferenceOptions", {}), 2)


def minimum(d: Draw) -> OneOp:
    return binary(d, "MINIMUM", Options("MaximumMinimumOptions", {}), 2, shared=True)


def maximum(d: Draw) -> OneOp:
    return binary(d, "MAXIMUM", Options("MaximumMinimumOptions", {}), 2, shared=True)


COMPARISONS = {
    "EQUAL": "EqualOptions",
    "NOT_EQUAL": "NotEqualOptions",
    "GREATER": "GreaterOptions",
    "GREATER_EQUAL": "GreaterEqualOptions",
    "LESS": "LessOptions",
    "LESS_EQUAL": "LessEqualOptions",
}


def comparison(d: Draw) -> OneOp:
    op = list(COMPARISONS)[d.whole(0, 5)]
    shape = d.shape()
    fed = {"in0": d.array(shape), "in1": d.array(shape)}
    first, second = d.spec(shape), d.spec(shape)
    out = Spec((1,), "bool")
    return OneOp(op, [first, second], [out], fed, Options(COMPARISONS[op], {}), 2).shaped()


def select_v2(d: Draw) -> OneOp:
    shape = d.shape()
    x = d.spec(shape)
    condition = d.rng.integers(0, 2, shape).astype(bool)
    fed = {"in0": condition, "in1": d.array(shape), "in2": d.array(shape)}
    inputs = [Spec(shape, "bool"), x, Spec(shape, x.dtype, x.scale, x.zero)]
    out = Spec((1,), x.dtype, x.scale, x.zero)
    return OneOp("SELECT_V2", inputs, [out], fed, Options("SelectV2Options", {})).shaped()


# --- over axes and windows -------------------------------------------------------------------------


def reduction(d: Draw, op: str, shared: bool, version: int) -> OneOp:
    shape = d.shape()
    axes = sorted(d.rng.permutation(4)[: d.whole(1, 3)].tolist())
    x = d.spec(shape)
    out = Spec((1,), x.dtype, x.scale, x.zero) if shared else d.spec()
    options = Options("ReducerOptions", {"keepDims": bool(d.whole(0, 1))})
    return OneOp(
        op, [x, ints(axes)], [out], {"in0": d.array(shape)}, options, version
    ).shaped()


def mean(d: Draw) -> OneOp:
    return reduction(d, "MEAN", shared=False, version=3 if d.wide else 2)


def reduce_sum(d: Draw) -> OneOp:
    return reduction(d, "SUM", shared=False, version=2)


def pool(d: Draw, op: str) -> OneOp:
    shape = (d.whole(1, 2), d.whole(3, 8), d.whole(3, 8), d.whole(1, 5))
    stride = d.whole(1, 2)
    fields = {
        "padding": d.whole(0, 1),
        "strideH": stride,
        "strideW": stride,
        "filterHeight": d.whole(1, 3),
        "filterWidth": d.whole(1, 3),
        "fusedActivationFunction": d.whole(0, 3),
    }
    one = same(d, op, Options("Pool2DOptions", fields), shape=shape)
    return OneOp(op, one.inputs, one.outputs, one.feeds, one.options, 3 if d.wide else 2)


def average_pool(d: Draw) -> OneOp:
    return pool(d, "AVERAGE_POOL_2D")


def max_pool(d: Draw) -> OneOp:
    return pool(d, "MAX_POOL_2D")


def arg_max(d: Draw) -> OneOp:
    shape = d.shape()
    options = Options("ArgMaxOptions", {"outputType": 2})
    inputs = [d.spec(shape), ints([d.whole(0, 3)])]
    out = Spec((1,), "int32")
    return OneOp("ARG_MAX", inputs, [out], {"in0": d.array(shape)}, options, 2).shaped()


def softmax(d: Draw) -> OneOp:
    out = Spec((1,), d.dtype, 1 / 32768 if d.wide else 1 / 256, 0 if d.wide else -128)
    beta = 1.0 if d.whole(0, 1) else float(d.rng.uniform(0.5, 2))
    scale = d.scale(-14, -8) if d.wide else d.scale(-7, 0)
    return unary(d, "SOFTMAX", Options("SoftmaxOptions", {"beta": beta}), out=out, scale=scale)


def log_softmax(d: Draw) -> OneOp:
    options = Options("LogSoftmaxOptions", {})
    return unary(d, "LOG_SOFTMAX", options, out=Spec((1,), d.dtype, 16 / 256, 127))


def resize(d: Draw, op: str, table: str) -> OneOp:
    fields = ({}, {"alignCorners": True}, {"halfPixelCenters": True})[d.whole(0, 2)]
    shape = (d.whole(1, 2), d.whole(1, 6), d.whole(1, 6), d.whole(1, 5))
    one = same(d, op, Options(table, fields), ints([d.whole(1, 12), d.whole(1, 12)]), shape=shape)
    return OneOp(op, one.inputs, one.outputs, one.feeds, one.options, 3)


def bilinear(d: Draw) -> OneOp:
    return resize(d, "RESIZE_BILINEAR", "ResizeBilinearOptions")


def nearest(d: Draw) -> OneOp:
    return resize(d, "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions")


# --- moving elements -------------------------------------------------------------------------------


def reshape(d: Draw) -> OneOp:
    shape = d.shape()
    new = np.asarray([shape[0], -1, shape[3]], np.int32)
    return same(d, "RESHAPE", Options("ReshapeOptions", {"newShape": new}), ints(new), shape=shape)


def transpose(d: Draw) -> OneOp:
    return same(d, "TRANSPOSE", Options("TransposeOptions", {}), ints(d.rng.permutation(4)))


def squeeze(d: Draw) -> OneOp:
    options = Options("SqueezeOptions", {"squeezeDims": np.asarray([1], np.int32)})
    return same(d, "SQUEEZE", options, shape=(d.whole(1, 2), 1, d.whole(1, 5), d.whole(1, 5)))


def expand_dims(d: Draw) -> OneOp:
    return same(
        d, "EXPAND_DIMS", Options("ExpandDimsOptions", {}), ints([d.whole(0, 3)]), shape=d.shape(3)
    )


def tile(d: Draw) -> OneOp:
    return same(d, "TILE", Options("TileOptions", {}), ints([1, d.whole(1, 2), d.whole(1, 3), 1]))


def broadcast_to(d: Draw) -> OneOp:
    shape = (1, d.whole(1, 4), 1, d.whole(1, 4))
    target = ints([d.whole(1, 3), shape[1], d.whole(1, 4), shape[3]])
    one = same(d, "BROADCAST_TO", Options("BroadcastToOptions", {}), target, shape=shape)
    return OneOp(one.op, one.inputs, one.outputs, one.feeds, one.options, 2)


def concatenation(d: Draw) -> OneOp:
    shape, axis = d.shape(), d.whole(0, 3)
    other = tuple(d.whole(1, 5) if i == axis else n for i, n in enumerate(shape))
    x = d.spec(shape)
    inputs = [x, Spec(other, x.dtype, x.scale, x.zero)]
    options = Options("ConcatenationOptions", {"axis": axis, "fusedActivationFunction": 0})
    fed = {"in0": d.array(shape), "in1": d.array(other)}
    out = Spec((1,), x.dtype, x.scale, x.zero)
    return OneOp("CONCATENATION", inputs, [out], fed, options, 2).shaped()


def pack(d: Draw) -> OneOp:
    shape = d.shape(3)
    x = d.spec(shape)
    options = Options("PackOptions", {"axis": d.whole(0, 3), "valuesCount": 2})
    fed = {"in0": d.array(shape), "in1": d.array(shape)}
    out = Spec((1,), x.dtype, x.scale, x.zero)
    return OneOp("PACK", [x, x], [out], fed, options, 2).shaped()


def unpack(d: Draw) -> OneOp:
    shape, axis = d.shape(), d.whole(0, 3)
    options = Options("UnpackOptions", {"axis": axis, "num": shape[axis]})
    return same(d, "UNPACK", options, shape=shape, outputs=shape[axis])


def split(d: Draw) -> OneOp:
    parts, axis = d.whole(1, 3), d.whole(0, 3)
    shape = tuple(n * parts if i == axis else n for i, n in enumerate(d.shape()))
    x = d.spec(shape)
    outs = [Spec((1,), x.dtype, x.scale, x.zero)] * parts
    options = Options("SplitOptions", {"numSplits": parts})
    inputs = [ints(axis), x]
    return OneOp("SPLIT", inputs, outs, {"in1": d.array(shape)}, options, 2).shaped()


def split_v(d: Draw) -> OneOp:
    sizes, axis = [d.whole(1, 3) for _ in range(3)], d.whole(0, 3)
    shape = tuple(sum(sizes) if i == axis else n for i, n in enumerate(d.shape()))
    options = Options("SplitVOptions", {"numSplits": 3})
    return same(d, "SPLIT_V", options, ints(sizes), ints(axis), shape=shape, outputs=3)


def slice_(d: Draw) -> OneOp:
    shape = d.shape()
    begin = [d.whole(0, n - 1) for n in shape]
    size = [-1 if d.whole(0, 2) == 0 else d.whole(1, n - b) for n, b in zip(shape, begin, strict=True)]
    return same(d, "SLICE", Options("SliceOptions", {}), ints(begin), ints(size), shape=shape)


def strided_slice(d: Draw) -> OneOp:
    shape = d.shape()
    begin = [d.whole(0, n - 1) for n in shape]
    end = [d.whole(b + 1, n) for n, b in zip(shape, begin, strict=True)]
    stride = [d.whole(1, 2) for _ in shape]
    fields = {"beginMask": d.whole(0, 15), "endMask": d.whole(0, 15), "shrinkAxisMask": d.whole(0, 1) * 8}
    if fields["shrinkAxisMask"]:
        stride[3] = 1
    return same(
        d,
        "STRIDED_SLICE",
        Options("StridedSliceOptions", fields),
        ints(begin),
        ints(end),
        ints(stride),
        shape=shape,
    )


def pad(d: Draw) -> OneOp:
    widths = d.rng.integers(0, 3, (4, 2))
    return same(d, "PAD", Options("PadOptions", {}), ints(widths))


def pad_v2(d: Draw) -> OneOp:
    shape = d.shape()
    x = d.spec(shape)
    value = Spec((1,), x.dtype, x.scale, x.zero, 0, d.array((1,)))
    inputs = [x, ints(d.rng.integers(0, 3, (4, 2))), value]
    out = Spec((1,), x.dtype, x.scale, x.zero)
    fed = {"in0": d.array(shape)}
    return OneOp("PADV2", inputs, [out], fed, Options("PadV2Options", {}), 2).shaped()


def mirror_pad(d: Draw) -> OneOp:
    mode, shape = d.whole(0, 1), (1, d.whole(3, 5), d.whole(3, 5), d.whole(1, 4))
    widths = [[0, 0], [d.whole(0, 2), d.whole(0, 2)], [d.whole(0, 2), d.whole(0, 2)], [0, 0]]
    options = Options("MirrorPadOptions", {"mode": mode})
    return same(d, "MIRROR_PAD", options, ints(widths), shape=shape)


def gather(d: Draw) -> OneOp:
    shape, axis = d.shape(), d.whole(0, 3)
    options = Options("GatherOptions", {"axis": axis, "batchDims": 0})
    indices = ints(d.rng.integers(0, shape[axis], d.whole(1, 5)))
    return same(d, "GATHER", options, indices, shape=shape)


def reverse(d: Draw) -> OneOp:
    return same(d, "REVERSE_V2", Options("ReverseV2Options", {}), ints([d.whole(0, 3)]))


def depth_to_space(d: Draw) -> OneOp:
    block = d.whole(1, 3)
    shape = (d.whole(1, 2), d.whole(1, 4), d.whole(1, 4), d.whole(1, 3) * block**2)
    return same(
        d, "DEPTH_TO_SPACE", Options("DepthToSpaceOptions", {"blockSize": block}), shape=shape
    )


def space_to_depth(d: Draw) -> OneOp:
    block = d.whole(1, 3)
    shape = (d.whole(1, 2), d.whole(1, 3) * block, d.whole(1, 3) * block, d.whole(1, 4))
    return same(
        d, "SPACE_TO_DEPTH", Options("SpaceToDepthOptions", {"blockSize": block}), shape=shape
    )


# --- other parameters, other types -----------------------------------------------------------------


def quantize(d: Draw, source: str | None = None, target: str | None = None) -> OneOp:
    here, there = Draw(d.rng, d.powers, source or d.dtype), Draw(d.rng, d.powers, target or d.dtype)
    shape = d.shape()
    out = there.spec(scale=there.scale(-6, -3) * np.float32(2**-6 if there.wide else 1))
    x = here.spec(shape, here.scale(-6, -3) * np.float32(2**-6 if here.wide else 1))
    options = Options("QuantizeOptions", {})
    return OneOp("QUANTIZE", [x], [out], {"in0": here.array(shape)}, options).shaped()


def quantize_float(d: Draw) -> OneOp:
    shape, out = d.shape(), d.spec()
    steps = d.rng.uniform(-200, 200, shape)
    if d.powers:
        steps = np.rint(2 * steps) / 2
    x = (steps * np.float64(out.scale)).astype(np.float32)
    options = Options("QuantizeOptions", {})
    return OneOp("QUANTIZE", [Spec(shape, "float32")], [out], {"in0": x}, options).shaped()


def dequantize(d: Draw) -> OneOp:
    return unary(d, "DEQUANTIZE", Options("DequantizeOptions", {}), out=Spec((1,), "float32"))


def cast(d: Draw) -> OneOp:
    options = Options("CastOptions", {"inDataType": 9, "outDataType": 2})
    return unary(d, "CAST", options, out=Spec((1,), "int32"))


def relu(d: Draw) -> OneOp:
    return unary(d, "RELU")


def relu6(d: Draw) -> OneOp:
    return unary(d, "RELU6")


def leaky_relu(d: Draw) -> OneOp:
    alpha = float(d.rng.choice([0.1, 0.25, 0.01, -0.5]))
    return unary(d, "LEAKY_RELU", Options("LeakyReluOptions", {"alpha": alpha}))


def prelu(d: Draw) -> OneOp:
    shape = d.shape()
    x = d.spec(shape)
    slopes = d.array((1, 1, shape[3]))
    alpha = Spec(slopes.shape, d.dtype, d.scale(-9, -7), d.zero(), 0, slopes)
    out = d.spec()
    return OneOp("PRELU", [x, alpha], [out], {"in0": d.array(shape)}).shaped()


def absolute(d: Draw) -> OneOp:
    return unary(d, "ABS", Options("AbsOptions", {}))


def negative(d: Draw) -> OneOp:
    return same(d, "NEG", Options("NegOptions", {}))


# --- functions of one variable ---------------------------------------------------------------------


def logistic(d: Draw) -> OneOp:
    out = Spec((1,), d.dtype, 1 / 32768 if d.wide else 1 / 256, 0 if d.wide else -128)
    return unary(d, "LOGISTIC", out=out, scale=d.scale(-14, -10) if d.wide else d.scale(-6, -3))


def tanh(d: Draw) -> OneOp:
    out = Spec((1,), d.dtype, 1 / 32768 if d.wide else 1 / 128, 0)
    return unary(d, "TANH", out=out, scale=d.scale(-14, -10) if d.wide else d.scale(-7, -4))


def hard_swish(d: Draw) -> OneOp:
    scale = d.scale(-7, -3)
    out = d.spec(scale=scale * np.float32(0.5 if d.powers else d.rng.uniform(0.4, 1)))
    return unary(d, "HARD_SWISH", out=out, scale=scale)


def exp(d: Draw) -> OneOp:
    return unary(d, "EXP", Options("ExpOptions", {}), scale=d.scale(-7, -5))


def log(d: Draw) -> OneOp:
    return unary(d, "LOG")


def rsqrt(d: Draw) -> OneOp:
    return unary(d, "RSQRT", zero=-128)


def sqrt(d: Draw) -> OneOp:
    return unary(d, "SQRT", zero=-128)


def gelu(d: Draw) -> OneOp:
    return unary(d, "GELU", Options("GeluOptions", {"approximate": bool(d.whole(0, 1))}))


def elu(d: Draw) -> OneOp:
    return unary(d, "ELU")
