"""Random operators of two operands, reductions, pools, softmaxes and resizes."""

from qcompile.targets.tflite.builder import Options
from tests.targets.tflite.reference.draw import Draw, ints, same, unary
from tests.targets.tflite.reference.one_op import OneOp, Spec


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


def reduction(d: Draw, op: str, shared: bool, version: int) -> OneOp:
    shape = d.shape()
    axes = sorted(d.rng.permutation(4)[: d.whole(1, 3)].tolist())
    x = d.spec(shape)
    out = Spec((1,), x.dtype, x.scale, x.zero) if shared else d.spec()
    options = Options("ReducerOptions", {"keepDims": bool(d.whole(0, 1))})
    return OneOp(op, [x, ints(axes)], [out], {"in0": d.array(shape)}, options, version).shaped()


def mean(d: Draw) -> OneOp:
    return reduction(d, "MEAN", shared=False, version=3 if d.wide else 2)


def reduce_max(d: Draw) -> OneOp:
    return reduction(d, "REDUCE_MAX", shared=True, version=3 if d.wide else 2)


def reduce_min(d: Draw) -> OneOp:
    return reduction(d, "REDUCE_MIN", shared=True, version=3 if d.wide else 2)


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


def arg_min(d: Draw) -> OneOp:
    return arg_max(d, "ARG_MIN", "ArgMinOptions")


def arg_max(d: Draw, op: str = "ARG_MAX", table: str = "ArgMaxOptions") -> OneOp:
    shape, axis = d.shape(4, 12), d.whole(0, 3)
    # Few different integers, so that equal ones are frequent.
    x = d.array(shape) // 32
    inputs, out = [d.spec(shape), ints([axis])], Spec((1,), "int32")
    return OneOp(op, inputs, [out], {"in0": x}, Options(table, {"outputType": 2}), 2).shaped()


def top_k(d: Draw) -> OneOp:
    shape = d.shape(3, 12)
    x = d.spec(shape)
    outs = [Spec((1,), x.dtype, x.scale, x.zero), Spec((1,), "int32")]
    fed = {"in0": d.array(shape) // 16}
    inputs = [x, ints(d.whole(1, shape[2]))]
    return OneOp("TOPK_V2", inputs, outs, fed, Options("TopKV2Options", {}), 2).shaped()


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
