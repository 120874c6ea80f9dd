"""Outlying channels leave what MatMuls read behind a Gelu; the float function stays."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core import graph as g
from qcompile.core.errors import QCompileError
from qcompile.core.plan import QuantPlan
from qcompile.passes.transform.divide import Divide, changed_values, find, request
from tests.passes.planning import draft
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged
from tests.passes.transform.gathering import gather


def outlying() -> np.ndarray:
    """A weight whose second output channel reaches thirty times as far as the others."""
    weight = rand(8, 32, seed=5)
    weight[:, 1] *= 30
    return weight


CONSTANTS = {
    "up": outlying(),
    "w": rand(32, 6, seed=1),
    "v": rand(32, 5, seed=2),
    "gain": np.abs(rand(32, seed=3)) + 0.5,
}
HIDDEN = "h = MatMul (x, up) a = Gelu (h) "


def net(body: str, **constants: np.ndarray) -> ir.Model:
    text = f"g (float[N, 3, 8] x) => (float[] y) {{ {body} }}"
    model = parse(text, {**CONSTANTS, **constants})
    for name in [n for n, v in model.graph.initializers.items() if not v.uses()]:
        del model.graph.initializers[name]
    return model


def found(model: ir.Model) -> dict[str, np.ndarray]:
    return find(model, gather(model, request(model)))


DIVIDED = [
    HIDDEN + "y = MatMul (a, w)",
    HIDDEN + "b = MatMul (a, w) c = MatMul (a, v) y = Concat <axis = -1> (b, c)",
    "h = MatMul (x, up) s = Sigmoid (h) a = Mul (h, s) y = MatMul (a, w)",
    HIDDEN + "b = MatMul (a, w) c = ReduceMean <keepdims = 1> (a) y = Add (b, c)",
]


@pytest.mark.parametrize("body", DIVIDED)
def test_an_outlying_channel_is_divided(body: str) -> None:
    model = net(body)
    factors = found(model)
    assert list(factors) == ["a"]
    assert int(np.argmax(factors["a"])) == 1
    assert factors["a"][1] > 5 * np.median(factors["a"])
    assert changed_values(model, factors) == {"a.divided"}
    before, weight = ops(model), inits(model)["w"]
    changed(Divide(factors), model, tolerance=1e-5)
    assert sorted(ops(model)) == sorted([*before, "Mul"])
    np.testing.assert_allclose(inits(model)["w"], weight * factors["a"][:, None], rtol=1e-6)
    divided = next(v for n in model.graph for v in n.outputs if v.name == "a.divided")
    assert {use.node.op_type for use in divided.uses()} == {"MatMul"}


def test_a_second_run_changes_nothing() -> None:
    model = net(DIVIDED[0])
    one = Divide(found(model))
    assert one(model).modified
    assert not one(model).modified
    assert request(model) == {}


def test_the_same_names_each_time() -> None:
    a, b = net(DIVIDED[1]), net(DIVIDED[1])
    factors = found(a)
    for model in (a, b):
        Divide(factors)(model)
    assert g.fingerprint(a) == g.fingerprint(b)


def test_one_scale_loses_less_of_a_divided_activation() -> None:
    """What it is for: 8 bits for all channels, before and after."""
    rng = np.random.default_rng(0)
    x = np.abs(rng.standard_normal((500, 32)))
    x[:, 1] *= 30
    w = CONSTANTS["w"]

    def noise(factors: np.ndarray) -> float:
        scaled = x / factors
        step = scaled.max() / 255
        return float(np.square((np.rint(scaled / step) * step * factors - x) @ w).mean())

    model = net(DIVIDED[0])
    assert noise(found(model)["a"]) < 0.1 * noise(np.ones(32))


def test_channels_that_are_alike_are_left() -> None:
    assert found(net(DIVIDED[0], up=np.sign(rand(8, 32, seed=5)))) == {}


@pytest.mark.parametrize(
    "body",
    [
        "h = MatMul (x, up) y = MatMul (h, w)",
        "h = MatMul (x, up) a = Relu (h) y = MatMul (a, w)",
        "h = MatMul (x, up) a = Mul (h, gain) y = MatMul (a, w)",
        HIDDEN + "t = Transpose <perm = [0, 2, 1]> (a) y = MatMul (t, a)",
        HIDDEN + "t = Transpose <perm = [0, 2, 1]> (a) y = MatMul (a, t)",
        HIDDEN + "b = MatMul (a, w) c = MatMul (b, z) d = MatMul (a, w) y = Add (c, d)",
        HIDDEN + "y = Identity (a)",
    ],
    ids=["layer", "linear", "gain", "second operand", "computed", "shared weight", "no layer"],
)
def test_what_is_left_alone(body: str) -> None:
    model = net(body, z=rand(6, 6))
    assert request(model) == {}
    unchanged(Divide(), model)


def test_the_mul_computes_in_floats_where_the_gelu_does() -> None:
    model = net(DIVIDED[0])
    Divide(found(model))(model)
    plan: QuantPlan = draft(model)
    name = next(n.name for n in model.graph if n.op_type == "Mul")
    assert plan.mode(name) == "float"
    assert "a.divided" in plan.values and "a" not in plan.values


def test_a_value_that_is_not_there_is_refused() -> None:
    with pytest.raises(Exception, match="no channels that can be scaled") as caught:
        Divide({"z": np.ones(32, np.float32)})(net(DIVIDED[0]))
    assert isinstance(caught.value.__cause__ or caught.value, QCompileError)
