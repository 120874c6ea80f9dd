"""Random operators that change parameters or type, and functions of one variable."""

import numpy as np

from qcompile.targets.tflite.builder import Options
from tests.targets.tflite.reference.draw import Draw, same, unary
from tests.targets.tflite.reference.one_op import OneOp, Spec


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


def relu_n1_to_1(d: Draw) -> OneOp:
    return unary(d, "RELU_N1_TO_1")


def relu_0_to_1(d: Draw) -> OneOp:
    return unary(d, "RELU_0_TO_1")


def l2_normalization(d: Draw) -> OneOp:
    options = Options("L2NormOptions", {"fusedActivationFunction": 0})
    return unary(d, "L2_NORMALIZATION", options, out=Spec((1,), d.dtype, 1 / 128, 0))


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
