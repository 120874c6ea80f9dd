"""Small networks with parts that are known to lose in 8 bits, where they matter and where not."""

import numpy as np
import onnx
from numpy.random import default_rng
from onnx import numpy_helper

CHANNELS, SQUEEZED = 16, 8


def noise(seed: int, *shape: int) -> np.ndarray:
    """Weights of which a layer's output has about the size of its input."""
    scale = float(np.prod(shape[1:])) ** -0.5
    return default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def pictures(count: int, seed: int = 3) -> np.ndarray:
    """Smooth noise whose brightness differs from one picture to the next, N x 3 x 16 x 16."""
    rng = default_rng(seed)
    coarse = rng.normal(size=(count, 3, 4, 4)) + rng.normal(size=(count, 3, 1, 1))
    return np.kron(coarse, np.ones((4, 4))).astype(np.float32)


def model(body: str, head: str, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """A model of text and constants, its nodes named by op and number."""
    made = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]>\ng {head} {{ {body} }}'
    )
    made.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    for number, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}_{number}"
    return made


def squeeze_excite(*, saturated: bool) -> onnx.ModelProto:
    """A block of MobileNetV3: expanded, depthwise, gated, projected; then a classifier.

    Trained networks have gates that are always open or always shut, by logits far out, beside gates
    that follow the picture. ``saturated``: a quarter of them, at logits of 60, so that the others
    have a step of half a unit in 8 bits. Otherwise all gates stay near 1/2 and hardly move.
    """
    logits = np.zeros(CHANNELS, np.float32)
    gate = noise(7, CHANNELS, SQUEEZED, 1, 1)
    if saturated:
        logits[::4] = np.asarray([60, -60, 60, -60], np.float32)
        gate *= 2
    else:
        gate *= 0.1
    return model(
        """e = Conv (x, we, be)
        r = Relu (e)
        d = Conv <group = 16, pads = [1, 1, 1, 1]> (r, wd, bd)
        a = Relu (d)
        p = GlobalAveragePool (a)
        s = Conv (p, ws, bs)
        t = Relu (s)
        l = Conv (t, wl, bl)
        g = HardSigmoid <alpha = 0.16666667, beta = 0.5> (l)
        m = Mul (a, g)
        o = Conv (m, wo, bo)
        q = GlobalAveragePool (o)
        f = Flatten (q)
        y = Gemm <transB = 1> (f, wf, bf)""",
        '(float["N", 3, 16, 16] x) => (float["N", 10] y)',
        {
            "we": noise(1, CHANNELS, 3, 1, 1), "be": 0.1 * noise(2, CHANNELS, 1)[:, 0],
            "wd": noise(3, CHANNELS, 1, 3, 3), "bd": 0.1 * noise(4, CHANNELS, 1)[:, 0],
            "ws": noise(5, SQUEEZED, CHANNELS, 1, 1), "bs": 0.1 * noise(6, SQUEEZED, 1)[:, 0],
            "wl": gate, "bl": logits,
            "wo": noise(9, 24, CHANNELS, 1, 1), "bo": 0.1 * noise(10, 24, 1)[:, 0],
            "wf": noise(11, 10, 24), "bf": np.zeros(10, np.float32),
        },
    )  # fmt: skip


def classifier() -> onnx.ModelProto:
    """Features, their mean, and as the last layer a Conv of one position; two classes far apart."""
    bias = np.zeros(10, np.float32)
    bias[:2] = [-12, 12]  # the others have a step of a tenth in 8 bits
    return model(
        """c = Conv <pads = [1, 1, 1, 1]> (x, w, b)
        r = Relu (c)
        p = GlobalAveragePool (r)
        l = Conv (p, v, d)
        f = Flatten (l)
        y = Softmax (f)""",
        '(float["N", 3, 16, 16] x) => (float["N", 10] y)',
        {
            "w": noise(1, CHANNELS, 3, 3, 3), "b": 0.1 * noise(2, CHANNELS, 1)[:, 0],
            "v": noise(3, 10, CHANNELS, 1, 1), "d": bias,
        },
    )  # fmt: skip


def attention(*, masked: bool) -> onnx.ModelProto:
    """One head over eight tokens of 16 numbers; ``masked``: with -10000 on those not to be seen."""
    mask = "z = Mul (hidden, low)\n u = Add (t, z)" if masked else "u = Add (t, none)"
    return model(
        f"""q = MatMul (x, wq)
        k = MatMul (x, wk)
        v = MatMul (x, wv)
        kt = Transpose <perm = [0, 2, 1]> (k)
        s = MatMul (q, kt)
        t = Mul (s, scale)
        {mask}
        p = Softmax (u)
        o = MatMul (p, v)
        y = MatMul (o, wo)""",
        "(float[1, 8, 16] x, float[1, 1, 8] hidden) => (float[1, 8, 16] y)",
        {
            "wq": 2 * noise(1, 16, 16), "wk": 2 * noise(2, 16, 16), "wv": noise(3, 16, 16),
            "wo": noise(4, 16, 16), "scale": np.float32(0.25), "low": np.float32(-10_000),
            "none": np.zeros((1, 1, 8), np.float32),
        },
    )  # fmt: skip


def sentences(count: int, seed: int = 3) -> dict[str, np.ndarray]:
    """Tokens, of which the last ones are hidden in some sentences."""
    rng = default_rng(seed)
    hidden = np.arange(8) >= rng.integers(4, 9, size=(count, 1, 1))
    return {
        "x": rng.normal(size=(count, 8, 16)).astype(np.float32),
        "hidden": hidden.astype(np.float32),
    }
