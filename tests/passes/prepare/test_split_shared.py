"""Constants are copied where readers need their own quantized form, and only there."""

import numpy as np
import pytest

from qcompile.passes.prepare.split_shared import SplitShared
from tests.passes.prepare.checking import changed, inits, parse, rand, unchanged

PASS = SplitShared()


def names(model, index: int) -> list[str | None]:
    """What the layers of the graph read as their input ``index``."""
    return [n.inputs[index].name for n in model.graph if len(n.inputs) > index]


def test_a_bias_per_layer():
    model = parse(
        """g (float[N, 4] x) => (float[N, 4] y) {
          a = Gemm(x, w, b)
          r = Relu(a)
          c = Gemm(r, w1, b)
          y = Gemm(c, w2, b)
        }""",
        {"w": rand(4, 4), "w1": rand(4, 4, seed=1), "w2": rand(4, 4, seed=2), "b": rand(4)},
    )
    changed(PASS, model, tolerance=0)
    assert names(model, 2) == ["b", "b_1", "b_2"]


def test_a_weight_read_along_two_axes():
    model = parse(
        """g (float[N, 4] x) => (float[N, 4] y) {
          a = Gemm(x, w)
          b = Gemm<transB = 1>(a, w)
          c = MatMul(b, w)
          y = Gemm<transB = 1>(c, w)
        }""",
        {"w": rand(4, 4)},
    )
    changed(PASS, model, tolerance=0)
    assert names(model, 1) == ["w", "w_1", "w", "w_1"]


def test_an_embedding_that_is_also_a_head():
    model = parse(
        """g (int64[N] i) => (float[N, 6] y) {
          e = Gather(w, i)
          y = Gemm<transB = 1>(e, w)
        }""",
        {"w": rand(6, 4)},
    )
    assert PASS(model).modified
    assert model.graph[0].inputs[0].name == "w"
    assert model.graph[1].inputs[1].name == "w_1"
    assert np.array_equal(inits(model)["w_1"], rand(6, 4))
    unchanged(PASS, model)


def test_a_weight_that_is_a_bias_too():
    model = parse(
        """g (float[N, 1] x, float[N, 1] z) => (float[N, 4] y, float[N, 4] u) {
          y = MatMul(x, w)
          u = Gemm(z, v, w)
        }""",
        {"w": rand(1, 4), "v": rand(1, 4, seed=1)},
    )
    changed(PASS, model, tolerance=0)
    assert model.graph[1].inputs[2].name == "w_1"


@pytest.mark.parametrize(
    "text",
    [
        "a = Gemm(x, w) y = Gemm(a, w)",  # one axis: one quantized form serves both
        "a = Gemm(x, w, b) y = Add(a, k)",
        "a = Mul(x, k) y = Add(a, k)",  # no layers
        "y = Gemm(x, w, b)",
    ],
)
def test_left_alone(text):
    constants = {"w": rand(4, 4), "b": rand(4), "k": rand(4)}
    unchanged(PASS, parse(f"g (float[N, 4] x) => (float[N, 4] y) {{ {text} }}", constants))


def test_what_is_added_behind_a_matmul_and_multiplied_with_elsewhere():
    model = parse(
        """g (float[N, 4] x) => (float[N, 4] y) {
          a = Mul(x, b)
          c = MatMul(a, w)
          d = Add(b, c)
          e = MatMul(d, w)
          y = Add(e, b)
        }""",
        {"w": rand(4, 4), "b": rand(4)},
    )
    changed(PASS, model, tolerance=0)
    assert model.graph[0].inputs[1].name == "b"
    assert model.graph[2].inputs[0].name == model.graph[4].inputs[1].name == "b_1"


def test_what_is_only_added_behind_matmuls_stays_shared():
    model = parse(
        """g (float[N, 4] x) => (float[N, 4] y) {
          c = MatMul(x, w)
          d = Add(c, b)
          e = MatMul(d, w)
          y = Add(e, b)
        }""",
        {"w": rand(4, 4), "b": rand(4)},
    )
    unchanged(PASS, model)
