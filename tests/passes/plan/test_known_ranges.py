"""What a graph says about its values, each rule once, held against what noise through it does."""

import numpy as np
import pytest

from qcompile.core.norms import known_norms
from qcompile.passes.plan.known_ranges import known_moments, known_range, layer_mean
from qcompile.passes.plan.moments import REACH, Moments
from qcompile.passes.prepare.fold_batch_norm import FoldBatchNorm
from qcompile.passes.prepare.linear import layer_of
from tests.passes.prepare.checking import batch_norm, changed, parse, rand

UNIT = {"x": (np.array([-1.0]), np.array([1.0]))}


def moments(
    body: str, constants: dict[str, np.ndarray], shape: str = "1, 3, 6, 6"
) -> dict[str, Moments]:
    model = parse(f"g (float[{shape}] x) => (float y) {{ {body} }}", constants)
    return known_moments(model.graph, UNIT)


def test_a_folded_normalization_says_mean_and_deviation() -> None:
    parameters = batch_norm(4)
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y) {
          c = Conv<pads = [1, 1, 1, 1]>(x, w)
          n = BatchNormalization<epsilon = 0.0>(c, g, b, m, v)
          y = Relu(n)
        }""",
        {"w": rand(4, 3, 3, 3), **parameters},
    )
    changed(FoldBatchNorm(), model)
    found = known_moments(model.graph, {})  # nothing is known of the input: none is needed
    gamma, beta = np.abs(parameters["g"]), parameters["b"]
    assert found["n"].mean == pytest.approx(beta, rel=1e-5)
    assert found["n"].deviation == pytest.approx(gamma, rel=1e-5)
    assert known_range(found["n"]) == pytest.approx(
        (min(beta - REACH * gamma), max(beta + REACH * gamma)), rel=1e-5
    )
    assert known_range(found["y"]) == pytest.approx((0, max(beta + REACH * gamma)), rel=1e-5)
    assert "n" in known_norms(model.clone().graph)


def test_a_normalization_in_front_of_layers_says_what_their_data_were() -> None:
    parameters = batch_norm(3)
    model = parse(
        """g (float[N, 3, 6, 6] x) => (float[N, 4, 6, 6] y) {
          r = Relu(x)
          n = BatchNormalization<epsilon = 0.0>(r, g, b, m, v)
          y = Conv(n, w)
        }""",
        {"w": rand(4, 3, 1, 1), **parameters},
    )
    changed(FoldBatchNorm(), model)
    assert known_norms(model.graph)["r"].mean == pytest.approx(parameters["m"], rel=1e-5)


@pytest.mark.parametrize(
    ("body", "low", "high"),
    [
        ("y = Relu(x)", 0, 1),
        ("y = LeakyRelu<alpha = 0.5>(x)", -0.5, 1),
        ("y = Mul(x, two)", -2, 2),
        ("y = Add(x, two)", 1, 3),
        ("y = Clip(x, zero, half)", 0, 0.5),
        ("y = MaxPool<kernel_shape = [2, 2]>(x)", -1, 1),
        ("a = Add(x, two) y = Pad(a, pads)", 0, 3),
        ("a = Add(x, two) y = Concat<axis = 1>(a, x)", -1, 3),
        ("a = Add(x, two) y = Concat<axis = 2>(a, x)", -1, 3),
        ("a = Transpose<perm = [0, 2, 3, 1]>(x) y = Relu(a)", 0, 1),
        ("y = Softmax(x)", 0, 1),
    ],
)
def test_ends_that_follow(body: str, low: float, high: float) -> None:
    constants = {
        "two": np.float32(2), "zero": np.float32(0), "half": np.float32(0.5),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }  # fmt: skip
    assert known_range(moments(body, constants)["y"]) == pytest.approx((low, high))


def test_a_clip_has_its_ends_whatever_comes_in() -> None:
    model = parse(
        "g (float[1, 3] x) => (float[1, 3] y) { a = Exp(x) y = Clip(a, zero, six) }",
        {"zero": np.float32(0), "six": np.float32(6)},
    )
    found = known_moments(model.graph, {})
    assert known_range(found.get("a")) is None
    assert known_range(found["y"]) == (0, 6)


def test_behind_weights_it_is_a_guess_and_soon_unknown() -> None:
    w = {f"w{i}": rand(3, 3, 1, 1, seed=i) for i in range(4)}
    found = moments("a = Conv(x, w0) b = Conv(a, w1) c = Conv(b, w2) y = Conv(c, w3)", w)
    assert [found[n].layers for n in "abcy"] == [1, 2, 3, 4]
    assert known_range(found["a"]) is not None
    assert known_range(found["c"]) is None
    assert known_range(found["y"], layers=4) is not None
    x = np.random.default_rng(0).uniform(-1, 1, (100_000, 3))
    drawn = x @ w["w0"][:, :, 0, 0].T.astype(np.float64)
    assert found["a"].deviation == pytest.approx(drawn.std(axis=0), rel=0.2)
    assert np.all(found["a"].high >= drawn.max(axis=0))


def test_the_mean_of_a_grouped_layer() -> None:
    model = parse(
        """g (float[1, 4, 1, 1] x) => (float[1, 8, 1, 1] y) { y = Conv<group = 2>(x, w, b) }""",
        {"w": rand(8, 2, 1, 1), "b": rand(8)},
    )
    layer = layer_of(model.graph[0])
    assert layer is not None
    inputs, w = np.array([1.0, 2.0, 3.0, 4.0]), rand(8, 2, 1, 1)[:, :, 0, 0].astype(np.float64)
    wanted = np.concatenate([w[:4] @ inputs[:2], w[4:] @ inputs[2:]])
    assert layer_mean(layer, inputs) == pytest.approx(wanted + rand(8))
    assert layer_mean(layer, inputs, 2 * rand(8, 2, 1, 1)) == pytest.approx(2 * wanted)
