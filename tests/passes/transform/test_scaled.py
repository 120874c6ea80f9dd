"""What transforms scale is found wherever the factors reach, and undone to the bit."""

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.passes.transform.scaled import scaled_values
from qcompile.passes.transform.table import transformed
from tests.passes.prepare.checking import parse, rand, run


def net():
    return parse(
        """g (float[2, 3, 4, 4] x) => (float[] y) {
          c = Conv <kernel_shape = [1, 1]> (x, w, b)
          r = Relu (c)
          p = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
          f = Flatten (p)
          d = Gemm (f, v)
          y = Relu (d)
        }""",
        {"w": rand(2, 3, 1, 1), "b": rand(2), "v": rand(8, 5)},
    )


FACTORS = {"c": np.asarray([4, 0.5], np.float32)}


def test_every_value_the_factors_reach():
    found = scaled_values(net(), {"equalize": FACTORS})
    assert {name: s.axis for name, s in found.items()} == {"c": 1, "r": 1, "p": 1, "f": 1}
    assert found["r"].factors.tolist() == [4, 0.5]
    assert found["f"].factors.tolist() == [4] * 4 + [0.5] * 4


def test_undone_they_are_the_values_of_the_model():
    model, names = net(), ["c", "r", "p", "f"]
    scaled = transformed(model, {"equalize": FACTORS})
    for graph in (model.graph, scaled.graph):
        graph.outputs.extend(v for node in graph for v in node.outputs if v.name in names)
    found = scaled_values(net(), {"equalize": FACTORS})
    for name, plain, other in zip(names, run(model)[1:], run(scaled)[1:], strict=True):
        assert not np.array_equal(plain, other)
        assert np.array_equal(plain, found[name].undo(other))


def test_one_transform_after_another():
    once = {"equalize": FACTORS, "smooth": {"d": np.ones(5, np.float32)}}
    with pytest.raises(QCompileError) as caught:  # d reaches the output, and cannot be scaled
        scaled_values(net(), once)
    assert caught.value.code is Code.BAD_PLAN
    twice = scaled_values(net(), {"equalize": FACTORS, "smooth": {"c": 2 * FACTORS["c"]}})
    assert twice["p"].factors.tolist() == [32, 0.5]


def test_nothing_is_scaled_by_no_transform():
    assert scaled_values(net(), {}) == {}
