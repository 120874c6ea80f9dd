"""Pads merge into convolutions and pools only where they mean the same there."""

import numpy as np
import pytest

from qcompile.core.graph import attribute_int, attribute_ints
from qcompile.passes.prepare.fold_pad import FoldPad
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = FoldPad()
ASYMMETRIC = np.array([0, 0, 1, 0, 0, 0, 2, 1])


def padded(reader: str, pads=ASYMMETRIC, pad="Pad(x, pads)", out="float[A, B, C, D] y", **extra):
    return parse(
        f"""g (float[N, 4, 6, 6] x) => ({out}) {{
          p = {pad}
          y = {reader}
        }}""",
        {"pads": pads, "w": rand(3, 4, 3, 3), "zero": np.float32(0), **extra},
    )


def test_conv_adds_the_pads():
    model = changed(PASS, padded("Conv<pads = [1, 0, 0, 1], strides = [2, 2]>(p, w)"))
    assert ops(model) == ["Conv"]
    assert attribute_ints(model.graph[0], "pads") == (2, 0, 2, 2)


def test_conv_with_auto_pad_valid():
    model = changed(PASS, padded('Conv<auto_pad = "VALID">(p, w)'))
    assert attribute_ints(model.graph[0], "pads") == (1, 0, 2, 1)


def test_conv_1d():
    model = parse(
        """g (float[N, 4, 6] x) => (float[N, 3, 6] y) {
          p = Pad(x, pads)
          y = Conv(p, w)
        }""",
        {"pads": np.array([0, 0, 2, 0, 0, 0]), "w": rand(3, 4, 3)},
    )
    assert ops(changed(PASS, model)) == ["Conv"]


def test_pad_with_axes_and_value():
    model = padded(
        "Conv(p, w)",
        pads=np.array([1, 2, 2, 0]),
        pad="Pad(x, pads, zero, axes)",
        axes=np.array([-1, 2]),
    )
    changed(PASS, model)
    assert attribute_ints(model.graph[0], "pads") == (2, 1, 0, 2)


def test_average_pool_counts_the_pads():
    model = changed(PASS, padded("AveragePool<kernel_shape = [3, 3]>(p)"))
    assert ops(model) == ["AveragePool"]
    assert attribute_int(model.graph[0], "count_include_pad", 0) == 1


def test_average_pool_that_counts_its_own_pads():
    reader = "AveragePool<kernel_shape = [3, 3], pads = [1, 1, 0, 1], count_include_pad = 1>(p)"
    assert ops(changed(PASS, padded(reader))) == ["AveragePool"]


def test_max_pool_with_minus_infinity():
    model = padded(
        "MaxPool<kernel_shape = [3, 3]>(p)", pad="Pad(x, pads, low)", low=np.float32(-np.inf)
    )
    assert ops(changed(PASS, model)) == ["MaxPool"]


@pytest.mark.parametrize("op", ["Relu(x)", "Clip(x, zero)"])
def test_max_pool_of_data_that_are_not_negative(op):
    model = parse(
        f"""g (float[N, 4, 6, 6] x) => (float[N, 4, 7, 5] y) {{
          r = {op}
          p = Pad(r, pads)
          y = MaxPool<kernel_shape = [3, 3]>(p)
        }}""",
        {"pads": ASYMMETRIC, "zero": np.float32(0)},
    )
    assert "Pad" not in ops(changed(PASS, model))


def test_the_pad_stays_for_readers_that_cannot_take_it():
    model = parse(
        """g (float[N, 4, 6, 6] x) => (float[N, 3, 7, 5] y, float[N, 4, 9, 7] z) {
          p = Pad(x, pads)
          y = Conv(p, w)
          z = Relu(p)
        }""",
        {"pads": ASYMMETRIC, "w": rand(3, 4, 3, 3)},
    )
    changed(PASS, model)
    assert ops(model) == ["Pad", "Conv", "Relu"]
    assert model.graph[1].inputs[0].name == "x"


@pytest.mark.parametrize(
    "model",
    [
        padded("Conv(p, w)", pad='Pad<mode = "reflect">(x, pads)'),
        padded("Conv(p, w)", pad="Pad(x, pads, one)", one=np.float32(1)),
        padded("Conv(p, w)", pads=np.array([0, 0, -1, 0, 0, 0, 1, 0])),
        padded("Conv(p, w)", pads=np.array([1, 0, 1, 0, 0, 0, 1, 0])),
        padded("Conv(p, w)", pads=np.array([0, 1, 0, 0, 0, 0, 0, 0]), w=rand(3, 5, 3, 3)),
        padded('Conv<auto_pad = "SAME_UPPER">(p, w)'),
        padded("AveragePool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(p)"),
        padded("AveragePool<kernel_shape = [3, 3], ceil_mode = 1>(p)"),
        padded("AveragePool<kernel_shape = [2, 3]>(p)"),
        padded("MaxPool<kernel_shape = [3, 3]>(p)"),
        padded("Relu(p)"),
    ],
    ids=[
        "reflect", "value", "negative", "batch", "channels", "same", "uncounted own pads",
        "rounds up", "reaches the kernel", "max of negative data", "no reader",
    ],
)  # fmt: skip
def test_left_alone(model):
    unchanged(PASS, model)


def test_computed_pads_are_left():
    model = parse(
        """g (float[N, 4, 6, 6] x, int64[8] pads) => (float[A, B, C, D] y) {
          p = Pad(x, pads)
          y = Conv(p, w)
        }""",
        {"w": rand(3, 4, 3, 3)},
    )
    unchanged(PASS, model)
