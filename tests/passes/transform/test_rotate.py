"""Outliers are spread over all channels; the float function stays."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core import graph as g
from qcompile.core.errors import QCompileError
from qcompile.passes.transform.rotate import Rotate, changed_values, find, request
from qcompile.passes.transform.stream import find_streams
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged
from tests.passes.transform.gathering import gather

HOT = np.ones(24, np.float32)
HOT[5] = 40.0

CONSTANTS = {
    "win": rand(10, 24, seed=1),
    "table": rand(7, 24, seed=11),
    "bin": rand(24, seed=2),
    "gain": np.abs(rand(24, seed=3)) * HOT,
    "gain2": np.abs(rand(24, seed=4)),
    "up": rand(24, 20, seed=5),
    "gate": rand(24, 20, seed=6),
    "down": rand(20, 24, seed=7),
    "downT": rand(24, 20, seed=8),
    "bdown": rand(24, seed=9),
    "head": rand(24, 5, seed=10),
    "two": np.asarray(2, np.float32),
    "eps": np.asarray(1e-3, np.float32),
    "last": np.asarray([-1], np.int64),
    "half": np.asarray(0.5, np.float32),
    "flat": np.asarray([-1, 24], np.int64),
}
START = "e = MatMul (x, win) "
NORM = (
    "p = Pow (e, two) m = ReduceMean (p, last) q = Add (m, eps) s = Sqrt (q) i = Reciprocal (s) "
    "n = Mul (e, i) a = Mul (n, gain) "
)
MLP = "u = MatMul (a, up) t = MatMul (a, gate) k = Sigmoid (t) h = Mul (u, k) d = MatMul (h, down) "
LAST = (
    "r = Add (e, d) p2 = Mul (r, r) m2 = ReduceMean (p2, last) q2 = Add (m2, eps) s2 = Sqrt (q2) "
    "n2 = Div (r, s2) a2 = Mul (n2, gain2) y = MatMul (a2, head)"
)
WHOLE = START + NORM + MLP + LAST


def net(body: str, feed: str = "float[N, 3, 10] x", opset: int = 21) -> ir.Model:
    model = parse(f"g ({feed}) => (float[] y) {{ {body} }}", CONSTANTS, opset)
    for name in [n for n, v in model.graph.initializers.items() if not v.uses()]:
        del model.graph.initializers[name]
    return model


def found(model: ir.Model) -> dict[str, np.ndarray]:
    return find(model, gather(model, request(model)))


TURNED = {
    "pre-norm": WHOLE,
    "bias of a writer": WHOLE.replace(
        "e = MatMul (x, win)", "e0 = MatMul (x, win) e = Add (e0, bin)"
    ),
    "scaled embedding": WHOLE.replace(
        "e = MatMul (x, win)", "e0 = MatMul (x, win) e = Mul (e0, half)"
    ),
    "read without a gain": START
    + NORM.replace("a = Mul (n, gain)", "a = Identity (n)").replace("a = Identity (n)", "")
    + MLP.replace("(a,", "(n,")
    + LAST,
}


@pytest.mark.parametrize("name", TURNED)
def test_an_outlying_channel_is_spread(name: str) -> None:
    model = net(TURNED[name])
    factors = found(model)
    assert {"x", "h"} < factors.keys()
    changed(Rotate(factors), model, tolerance=1e-4)
    assert ops(model).count("Reshape") == 4
    for node in model.graph:
        is_online = node.outputs[0].name in {"h.pieces", "h.half_turned", "h.turned_pieces"}
        assert not is_online or g.STAYS_FLOAT_KEY in node.metadata_props
    if "gain" in inits(model):
        assert np.array_equal(inits(model)["gain"], np.ones(24, np.float32))


def test_the_norm_as_one_operator() -> None:
    body = (
        START
        + "a = RMSNormalization <axis = -1> (e, gain) "
        + MLP
        + "r = Add (e, d) a2 = RMSNormalization (r, gain2) y = MatMul (a2, head)"
    )
    model = net(body, opset=23)
    factors = found(model)
    assert {"e", "x", "h"} == factors.keys()
    changed(Rotate(factors), model, tolerance=1e-4)


def test_the_stream_is_flat_afterwards() -> None:
    model = net(WHOLE)
    before = np.abs(gather_of(model, "a")).max(axis=(0, 1))
    Rotate(found(model))(model)
    after = np.abs(gather_of(model, "a")).max(axis=(0, 1))
    assert before.max() > 15 * np.median(before)
    assert after.max() < 4 * np.median(after)


def gather_of(model: ir.Model, name: str) -> np.ndarray:
    from qcompile.targets.onnxruntime.executor import OrtExecutor

    x = np.random.default_rng(0).normal(size=(8, 3, 10)).astype(np.float32)
    return OrtExecutor().load(model, [name]).run({"x": x})[0]


def test_rows_of_a_table_and_a_gemm() -> None:
    body = (
        "e = Gather (table, ids) "
        + NORM
        + "u = MatMul (a, up) k = Sigmoid (u) d = Gemm <transB = 1, beta = 0.5> (k, downT, bdown) "
        + LAST
    )
    model = net(body, "int64[N] ids")
    stream = find_streams(model.graph)[0]
    assert (len(stream.tables), len(stream.layers), stream.faults) == (1, 1, [])
    x = {"ids": np.asarray([0, 3, 6, 6], np.int64)}
    from qcompile.targets.onnxruntime.executor import OrtExecutor

    before = OrtExecutor().load(model).run(x)[0]
    factors = {name: np.asarray([4], np.float32) for name in ("e", "k")}
    assert Rotate(factors)(model).modified
    after = OrtExecutor().load(model).run(x)[0]
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()


def test_another_seed_is_another_rotation() -> None:
    models = [net(WHOLE) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        Rotate({"e": np.asarray([seed], np.float32)})(model)
    same, again, other = (inits(model)["up"] for model in models)
    assert np.array_equal(same, again)
    assert not np.allclose(same, other)


def test_the_order_of_a_plan_makes_no_difference() -> None:
    models = [net(WHOLE) for _ in range(2)]
    factors = found(models[0])
    Rotate(factors)(models[0])
    Rotate(dict(reversed(factors.items())))(models[1])
    for name, array in inits(models[0]).items():
        assert np.array_equal(array, inits(models[1])[name]), name


def test_a_second_run_changes_nothing() -> None:
    model = net(WHOLE)
    one = Rotate(found(model))
    assert one(model).modified
    unchanged(one, model)


def test_what_must_be_gathered_again() -> None:
    model = net(WHOLE)
    values = changed_values(model, ["e", "h"])
    assert {"e", "n", "a", "d", "r", "n2", "a2", "h.turned"} <= values
    assert not values & {"h", "u", "t", "y", "x"}


REFUSED = {
    "it is an output": START + NORM + MLP + "y = Add (e, d)",
    "it is an input": NORM.replace("e", "e").replace("(e,", "(x,") + "y = MatMul (a, head)",
    "an op reads it channel by channel": WHOLE.replace(
        "d = MatMul", "f = Relu (e) d0 = MatMul"
    ).replace("(h, down)", "(h, down) d = Add (d0, f)"),
    "others read what the gain makes": WHOLE.replace("r = Add (e, d)", "r = Add (a, d)"),
    "a LayerNormalization": START
    + "a = LayerNormalization (e, gain, gain2) "
    + MLP
    + "r = Add (e, d) a2 = RMSNormalization (r, gain2) y = MatMul (a2, head)",
    "one number is added to all": WHOLE.replace(
        "r = Add (e, d)", "r0 = Add (e, d) r = Add (r0, half)"
    ),
    "it is reshaped": WHOLE.replace("r = Add (e, d)", "r0 = Add (e, d) r = Relu (r0)"),
    "a norm a channel": WHOLE.replace("n = Mul (e, i)", "n = Mul (e, e)"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_is_left_alone(why: str) -> None:
    model = net(REFUSED[why])
    assert all(stream.faults for stream in find_streams(model.graph))
    assert request(model) == {}
    assert find(model, {}) == {}


def test_a_plan_for_another_graph_is_refused() -> None:
    with pytest.raises(QCompileError, match="turns the channels of nobody"):
        Rotate({"nobody": np.ones(1, np.float32)})(net(WHOLE))


def test_nothing_to_do() -> None:
    unchanged(Rotate(), net(WHOLE))
