"""Integer kernels on weights made to overflow int16: what they return, and what is exact.

Run as a program it prints one JSON line a case, so that a test can run it on an emulated CPU::

    qemu-x86_64 -cpu Haswell python -m tests.targets.onnxruntime.avx2_kernels

A kernel's 32-bit sums are read through its 8-bit output: scale 1, and a bias that moves the exact
sum of one chosen output of each channel to 128.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

from qcompile.core.numerics.affine import quantize, symmetric_params
from qcompile.core.numerics.saturation import (
    channels_at_risk,
    columns,
    groups,
    kind_of,
    safe_scales,
)
from qcompile.core.target import Saturation
from qcompile.targets.catalog import load_target
from tests.targets.onnxruntime.qdq_models import Builder, session

SATURATION = load_target("ort-x86-avx2").saturation
assert SATURATION is not None
HIGH = SATURATION.activation_high


@dataclass(frozen=True)
class Layer:
    """One multiply-add; ``weight`` in ONNX layout, ``shape`` of its activation."""

    op: str
    shape: tuple[int, ...]
    weight: tuple[int, ...]
    group: int = 1
    pad: int = 0
    stride: int = 1
    dilation: int = 1
    transposed: bool = False
    zero: int = 0
    dynamic: bool = False

    @property
    def axis(self) -> int:
        """Axis of the output channels."""
        return 0 if self.op == "Conv" or self.transposed else len(self.weight) - 1

    @property
    def kind(self) -> str:
        return str(kind_of(self.op, self.weight, self.group))


LAYERS = {
    "conv 1x1": Layer("Conv", (1, 8, 5, 5), (16, 8, 1, 1)),
    "conv 1x1, odd": Layer("Conv", (1, 5, 5, 5), (7, 5, 1, 1), zero=120),
    "conv 3x3": Layer("Conv", (1, 8, 7, 7), (16, 8, 3, 3), pad=1, zero=120),
    "conv 3x3 of a picture": Layer("Conv", (1, 3, 9, 9), (16, 3, 3, 3), pad=1, stride=2, zero=255),
    "conv 5x5, odd": Layer("Conv", (1, 3, 9, 9), (8, 3, 5, 5), pad=2),
    "conv dilated": Layer("Conv", (1, 4, 9, 9), (24, 4, 3, 3), pad=2, dilation=2, zero=3),
    "conv 1-D": Layer("Conv", (1, 3, 9), (8, 3, 3), pad=1),
    "conv 3-D": Layer("Conv", (1, 4, 4, 5, 4), (16, 4, 2, 3, 2), pad=1, zero=9),
    "grouped": Layer("Conv", (1, 16, 6, 6), (32, 4, 3, 3), group=4, pad=1),
    "grouped, odd": Layer("Conv", (1, 6, 6, 6), (9, 2, 3, 2), group=3, pad=1, zero=7),
    "depth multiplier": Layer("Conv", (1, 8, 6, 6), (16, 1, 3, 3), group=8, pad=1),
    "depthwise": Layer("Conv", (1, 16, 6, 6), (16, 1, 3, 3), group=16, pad=1, zero=9),
    "depthwise, odd": Layer("Conv", (1, 5, 6, 6), (5, 1, 3, 3), group=5, pad=1),
    "depthwise 7x7": Layer("Conv", (1, 32, 8, 8), (32, 1, 7, 7), group=32, pad=3),
    "depthwise 3-D": Layer("Conv", (1, 16, 4, 5, 4), (16, 1, 3, 3, 3), group=16, pad=1),
    "gemm": Layer("Gemm", (5, 37), (37, 20), zero=11),
    "gemm, one row": Layer("Gemm", (1, 64), (64, 16)),
    "gemm transB": Layer("Gemm", (5, 64), (20, 64), transposed=True),
    "matmul": Layer("MatMul", (4, 37), (37, 33), zero=99),
    "matmul, one row": Layer("MatMul", (1, 64), (64, 16)),
    "matmul, long": Layer("MatMul", (3, 500), (500, 20)),
    "matmul rank 3": Layer("MatMul", (2, 4, 64), (64, 16), zero=7),
    "matmul, stack of weights": Layer("MatMul", (2, 4, 16), (2, 16, 8)),
    "matmul, dynamic": Layer("MatMul", (5, 64), (64, 16), dynamic=True),
}


@dataclass(frozen=True)
class Observed:
    """One run: whether the kernel's result is exact, or that of saturating neighbours."""

    layer: str
    variant: str
    at_risk: int
    exact: bool
    saturating: bool
    differ: bool
    """Whether the exact and the saturated result differ at all on these activations."""


def observe(name: str, layer: Layer, seed: int = 0) -> Iterator[Observed]:
    """Run one layer with unsafe weights, safe ones, as U8, and with exact kernels asked for."""
    rng = np.random.default_rng(seed)
    weight = rng.choice([1.0, -1.0, 0.7, -0.8, 0.0, 0.05], layer.weight).astype(np.float32)
    others = tuple(i for i in range(weight.ndim) if i != layer.axis)
    scale, zero = symmetric_params(np.abs(weight).max(axis=others), "int8")
    assert SATURATION is not None
    pairing = SATURATION.pairing[layer.kind]
    safe = safe_scales(weight, scale, layer.axis, pairing, SATURATION)
    if len(layer.weight) > 2 and layer.op == "MatMul":  # a stack of weights takes one scale
        scale, safe = (
            np.broadcast_to(scale.max(), scale.shape),
            np.broadcast_to(safe.max(), safe.shape),
        )
    unsafe = quantize(weight, scale, zero, "int8", layer.axis)
    proved = quantize(weight, safe, zero, "int8", layer.axis)
    for variant, integers, dtype, precise in (
        ("unsafe", unsafe, "int8", False),
        ("safe", proved, "int8", False),
        ("u8", unsafe, "uint8", False),
        ("precise", unsafe, "int8", True),
    ):
        yield _run(name, variant, layer, integers, dtype, precise, rng)


def _run(
    name: str,
    variant: str,
    layer: Layer,
    integers: np.ndarray,
    dtype: str,
    precise: bool,
    rng: np.random.Generator,
) -> Observed:
    assert SATURATION is not None
    hot = rng.choice([0, HIGH, 200, 3], layer.shape, p=[0.15, 0.6, 0.15, 0.1])
    hot.reshape(-1)[:2] = 0, HIGH  # the whole range, so that a dynamic scale is 1
    exact, saturated = (_sums(layer, hot, integers, s) for s in (None, SATURATION))
    stored = integers if dtype == "int8" else (integers.astype(np.int16) + 128).astype(np.uint8)
    b = Builder()
    x = b.input(layer.shape)
    if layer.dynamic:
        value = b.node("DequantizeLinear", b.node("DynamicQuantizeLinear", [x], 3))[0]
    else:
        value = b.quantized(x, 1, layer.zero)
    middle = 0 if dtype == "int8" else 128
    if layer.op == "MatMul":
        inputs = [value, b.stored(stored, 1, middle)]
        b.output(b.node("MatMul", inputs)[0])
        expected, clipped = exact, saturated
    else:
        channel = 1 if layer.op == "Conv" else -1
        by_channel = np.moveaxis(exact, channel, 0).reshape(exact.shape[channel], -1)
        bias = 128 - by_channel[:, by_channel.shape[1] // 2]
        one = np.ones(len(bias), np.float32)
        inputs = [value, b.stored(stored, one, middle, layer.axis)]
        inputs.append(b.stored(bias.astype(np.int32), one, 0, 0))
        b.output(b.quantized(b.node(layer.op, inputs, **_attributes(layer))[0], 1, 0))
        shape = (-1, *[1] * (exact.ndim - 2)) if layer.op == "Conv" else (-1,)
        expected, clipped = (np.clip(s + bias.reshape(shape), 0, 255) for s in (exact, saturated))
    feed = hot.astype(np.float32) - (0 if layer.dynamic else layer.zero)
    result = session(b.model(), precise=precise).run(None, {"x0": feed})[0]
    pairing = SATURATION.pairing[layer.kind]
    return Observed(
        name,
        variant,
        int(channels_at_risk(integers, layer.axis, pairing, SATURATION).sum()),
        exact=bool(np.array_equal(result, expected)),
        saturating=bool(np.array_equal(result, clipped)),
        differ=not np.array_equal(expected, clipped),
    )


def _attributes(layer: Layer) -> dict[str, object]:
    if layer.op == "Gemm":
        return {"transB": int(layer.transposed)}
    spatial = len(layer.weight) - 2
    return {
        "group": layer.group,
        "pads": [layer.pad] * 2 * spatial,
        "strides": [layer.stride] * spatial,
        "dilations": [layer.dilation] * spatial,
    }


def _sums(
    layer: Layer, x: np.ndarray, integers: np.ndarray, saturation: Saturation | None
) -> np.ndarray:
    """Sums of products in numpy; of neighbours that saturate, when ``saturation`` is given."""
    if layer.op != "Conv":
        by_batch = columns(integers, layer.axis).transpose(1, 0, 2)
        rows = x.reshape(-1, *x.shape[-2:])
        sums = [
            _dot(rows[i], by_batch[i % len(by_batch)], layer.zero, saturation)
            for i in range(len(rows))
        ]
        return np.stack(sums).reshape(*x.shape[:-1], -1)
    patches, spatial = _patches(layer, x)
    parts = np.split(integers, layer.group)
    sums = [
        _dot(patches[:, i], columns(part, 0)[:, 0], layer.zero, saturation)
        for i, part in enumerate(parts)
    ]
    return np.concatenate(sums, axis=1).T.reshape(1, -1, *spatial)


def _dot(
    rows: np.ndarray, weights: np.ndarray, zero: int, saturation: Saturation | None
) -> np.ndarray:
    """``(rows - zero) @ weights.T``; the zero point is taken off after the saturating sum."""
    products = 2 if saturation is None else saturation.products
    padded = np.pad(rows.astype(np.int64), ((0, 0), (0, -rows.shape[1] % products)))
    grouped = groups(weights, 0, products).astype(np.int64)
    partial = np.einsum("rgp,ngp->rng", padded.reshape(len(rows), -1, products), grouped)
    if saturation is not None:
        partial = np.clip(partial, saturation.low, saturation.high)
    total: np.ndarray = partial.sum(2) - zero * grouped.sum((1, 2))
    return total


def _patches(layer: Layer, x: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """What each output position sees: (positions, groups, taps * channels), channels last."""
    taps = layer.weight[2:]
    padded = np.pad(
        x[0], [(0, 0)] + [(layer.pad, layer.pad)] * len(taps), constant_values=layer.zero
    )
    spatial = tuple(
        (padded.shape[1 + i] - layer.dilation * (tap - 1) - 1) // layer.stride + 1
        for i, tap in enumerate(taps)
    )
    seen = np.empty((*spatial, *taps, x.shape[1]), np.int64)
    for at in product(*map(range, spatial)):
        for tap in product(*map(range, taps)):
            place = (o * layer.stride + t * layer.dilation for o, t in zip(at, tap, strict=True))
            seen[(*at, *tap)] = padded[(slice(None), *place)]
    count = math.prod(spatial)
    by_group = seen.reshape(count, math.prod(taps), layer.group, -1).transpose(0, 2, 1, 3)
    return by_group.reshape(count, layer.group, -1), spatial


def main() -> None:
    for name, layer in LAYERS.items():
        for observed in observe(name, layer):
            print(json.dumps(asdict(observed)), flush=True)


if __name__ == "__main__":
    main()
