"""The QDQ graph means exact integer arithmetic: ONNX Runtime against plain numpy, in steps.

ONNX Runtime runs the graph twice: node by node, where sums are taken in float32, and fused, where
they are integers and the rescale is one float32 product. Either may round a value that lies within
float32's error of a tie to the other side; how many do is stated and held.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.numerics.affine import limits, quantize
from qcompile.core.plan import QuantPlan
from qcompile.passes.plan.safe_weights import make_weights_safe
from qcompile.passes.rounding.nearest import bias_integers, weight_integers
from qcompile.targets.catalog import load_target
from tests.passes.planning import Planned, pictures, planned, session
from tests.passes.prepare.checking import parse, rand

Arrays = Mapping[str, np.ndarray]


class Emulation:
    """Evaluates a planned graph in int64 and rationals that float64 holds."""

    def __init__(self, done: Planned) -> None:
        self.plan: QuantPlan = done.plan
        self.constants = {
            n: v.const_value.numpy() for n, v in done.model.graph.initializers.items()
        }

    def params(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        entry = self.plan.values[name].params
        assert entry is not None
        return entry.scale.astype(np.float64), entry.zero_point

    def store(self, x: np.ndarray, name: str) -> np.ndarray:
        """Integers of an input as the graph's quantizer makes them."""
        entry = self.plan.values[name]
        assert entry.params is not None
        q = quantize(x, entry.params.scale, entry.params.zero_point, entry.dtype)
        return q.astype(np.int64)

    def weight(self, name: str) -> np.ndarray:
        """Integers of a weight around their zero point."""
        entry = self.plan.values[name]
        assert (
            entry.params is not None
            and entry.params.zero_point.max() == entry.params.zero_point.min()
        )
        integers = weight_integers(self.constants[name], entry, None).astype(np.int64)
        return integers - int(entry.params.zero_point.max())

    def bias(self, name: str) -> np.ndarray:
        params = self.plan.values[name].params
        assert params is not None
        return bias_integers(self.constants[name], params, self.plan.corrections.get(name)).astype(
            np.int64
        )

    def put(self, real: np.ndarray, name: str) -> np.ndarray:
        """Round to the nearest integer of a value."""
        scale, zero = self.params(name)
        low, high = limits(self.plan.values[name].dtype)
        return np.clip(np.rint(real / scale) + zero, low, high).astype(np.int64)

    def centred(self, q: np.ndarray, name: str) -> np.ndarray:
        return q - int(self.params(name)[1])

    def channels(self, x: str, w: str, axis: int, rank: int) -> np.ndarray:
        """``s_x * s_w``, shaped to lie along an axis of the output."""
        scale = self.params(x)[0] * self.params(w)[0]
        shape = [1] * rank
        if scale.ndim:
            shape[axis] = -1
        return scale.reshape(shape)


def conv(q: np.ndarray, w: np.ndarray, pad: int, group: int = 1) -> np.ndarray:
    """Exact sums of a convolution of one picture; zeros of the real line are padded."""
    q = np.pad(q, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    kernel = w.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(q, kernel, (2, 3))
    inputs = np.split(windows, group, 1)
    weights = np.split(w, group, 0)
    return np.concatenate(
        [np.einsum("nchwij,ocij->nohw", i, k) for i, k in zip(inputs, weights, strict=True)], 1
    )


def convolution(done: Planned, feed: Arrays, group: int, clamps: bool) -> np.ndarray:
    e = Emulation(done)
    q = e.centred(e.store(feed["x"], "x"), "x")
    sums = conv(q, e.weight("w"), 1, group) + e.bias("b").reshape(1, -1, 1, 1)
    real = sums * e.channels("x", "w", 1, 4)
    return e.put(np.maximum(real, 0) if clamps else real, "y")


def product(done: Planned, feed: Arrays, transposed: bool = False) -> np.ndarray:
    e = Emulation(done)
    q = e.centred(e.store(feed["x"], "x"), "x")
    weight = e.weight("w").T if transposed else e.weight("w")
    sums = q @ weight + (e.bias("b") if "b" in e.plan.values else 0)
    return e.put(sums * e.channels("x", "w", -1, sums.ndim), "y")


def addition(done: Planned, feed: Arrays) -> np.ndarray:
    e = Emulation(done)
    a, b = (e.centred(e.store(feed[n], n), n) * e.params(n)[0] for n in ("x", "z"))
    return e.put(a + b, "y")


def differences(done: Planned, wanted: list[np.ndarray], *, optimize: bool) -> tuple[int, float]:
    """Largest difference in steps, and the share of elements that differ."""
    loaded = session(done.qdq(["y"]), optimize=optimize)
    got = [loaded.run(feed)[0].astype(np.int64) for feed in done.feeds]
    delta = np.concatenate([np.abs(a - b).ravel() for a, b in zip(got, wanted, strict=True)])
    assert delta.size >= 1000
    return int(delta.max()), float(np.count_nonzero(delta) / delta.size)


def layer(op: str, shape: tuple[int, ...], clamp: str = "") -> ir.Model:
    end = f"c = {op} (x, w, b) y = {clamp} (c)" if clamp else f"y = {op} (x, w, b)"
    weight = rand(*shape) * np.logspace(0, 1, shape[0]).astype(np.float32).reshape(-1, 1, 1, 1)
    constants = {"w": weight, "b": rand(shape[0], seed=2)}
    return parse(f"g (float[1, 8, 12, 12] x) => (float[] y) {{ {end} }}", constants)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("clamp", ["", "Relu"])
@pytest.mark.parametrize(
    ("op", "shape", "group"),
    [
        ("Conv <pads = [1, 1, 1, 1]>", (8, 8, 3, 3), 1),
        ("Conv <pads = [1, 1, 1, 1], group = 8>", (8, 1, 3, 3), 8),
    ],
)
def test_convolutions(op, shape, group, clamp, granularity):
    model = layer(op, shape, clamp)
    done = planned(model, pictures(1, 8, 12, 12), ends="uint8", granularity=granularity)
    wanted = [convolution(done, feed, group, bool(clamp)) for feed in done.feeds]
    check(done, wanted)


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize(
    ("text", "transposed"),
    [
        ("y = Gemm (x, w, b)", False),
        ("y = Gemm <transB = 1> (x, w, b)", True),
        ("y = MatMul (x, w)", False),
        ("p = MatMul (x, w) y = Add (p, b)", False),
    ],
)
def test_products(text, transposed, granularity):
    weight = rand(32, 16) * np.logspace(0, 1, 16).astype(np.float32)
    constants = {"w": weight.T.copy() if transposed else weight, "b": rand(16, seed=2)}
    model = parse(f"g (float[20, 32] x) => (float[] y) {{ {text} }}", constants)
    done = planned(model, pictures(20, 32), ends="uint8", granularity=granularity)
    check(done, [product(done, feed, transposed) for feed in done.feeds])


def test_additions():
    model = parse("g (float[1, 4, 9, 9] x, float[1, 4, 9, 9] z) => (float[] y) { y = Add (x, z) }")
    feeds = [
        {"x": one["x"], "z": 3 * two["x"]}
        for one, two in zip(pictures(1, 4, 9, 9), pictures(1, 4, 9, 9)[::-1], strict=True)
    ]
    done = planned(model, feeds, ends="uint8")
    check(done, [addition(done, feed) for feed in feeds])


def test_a_corrected_bias():
    done = planned(
        layer("Conv <pads = [1, 1, 1, 1]>", (8, 8, 3, 3)), pictures(1, 8, 12, 12), ends="uint8"
    )
    done.plan.corrections["b"] = rand(8, seed=9)
    check(done, [convolution(done, feed, 1, False) for feed in done.feeds])


def test_weights_of_the_other_type_give_the_same_integers():
    avx2 = load_target("ort-x86-avx2")
    hasty = replace(avx2, saturation=replace(avx2.saturation, worth=0.0))
    done = planned(
        layer("Conv <pads = [1, 1, 1, 1]>", (8, 8, 3, 3)), pictures(1, 8, 12, 12), ends="uint8"
    )
    wanted = [convolution(done, feed, 1, False) for feed in done.feeds]
    assert make_weights_safe(done.model.graph, done.plan, hasty).layers_unsigned == 1
    assert done.plan.values["w"].dtype == "uint8"
    again = [convolution(done, feed, 1, False) for feed in done.feeds]
    assert all(np.array_equal(a, b) for a, b in zip(wanted, again, strict=True))
    check(done, wanted)


def check(done: Planned, wanted: list[np.ndarray]) -> None:
    for optimize in (False, True):
        most, share = differences(done, wanted, optimize=optimize)
        assert most <= 1
        assert share <= 0.001  # none at all where this was written
