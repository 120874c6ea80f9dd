"""Portions in graph order; what each reads, in the float graph and behind weights that changed."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.plan import NodePlan, QuantPlan, ValuePlan
from qcompile.passes.rounding.portions import Portion, Streams, portions
from tests.passes.planning import EXECUTOR
from tests.passes.prepare.checking import parse, rand

CONSTANTS = {
    "q": rand(8, 6, seed=1),
    "k": rand(8, 6, seed=2),
    "o": rand(6, 8, seed=3),
    "d": rand(8, 5, seed=4),
    "t": rand(10, 8, seed=5),
}
BODY = (
    "g (int64[N, 3] ids) => (float[N, 3, 5] y) { x = Gather (t, ids) a = MatMul (x, q) "
    "b = MatMul (x, k) p = Mul (a, b) r = MatMul (p, o) s = Add (r, x) y = MatMul (s, d) }"
)


def _model() -> tuple[ir.Model, QuantPlan]:
    model = parse(BODY, CONSTANTS)
    plan = QuantPlan("", "", "w4")
    for node in model.graph:
        weight = node.inputs[1] if node.op_type == "MatMul" else node.inputs[0]
        if node.op_type in {"MatMul", "Gather"} and weight is not None:
            plan.nodes[node.name or ""] = NodePlan(node.name or "", node.op_type, "weights")
            name = weight.name or ""
            plan.values[name] = ValuePlan(name, "weight", "uint4", "group", 0, group=4)
    return model, plan


FEEDS = [{"ids": np.array([[i, (3 * i) % 10, (7 * i) % 10]])} for i in range(5)]


def _rows(_: int, x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])


def _streams(found: list[Portion], *, drifting: bool) -> Streams:
    model, _ = _model()
    return Streams(model, found, EXECUTOR, FEEDS, _rows, drifting=drifting, threads=1)


def _found() -> list[Portion]:
    return portions(_model()[0].graph, _model()[1])


def test_what_reads_one_value_is_one_portion() -> None:
    """Tables are none; order is the graph's."""
    found = _found()
    assert [p.value for p in found] == ["x", "p", "s"]
    assert [[s.name for s in p.layers] for p in found] == [["q", "k"], ["o"], ["d"]]
    assert [p.rows for p in found] == [8, 6, 8]


def test_a_weight_that_two_portions_read_is_rounded_once() -> None:
    model = parse(
        "g (float[N, 8] x) => (float[N, 8] y) { a = MatMul (x, w) b = Relu (a) y = MatMul (b, w) }",
        {"w": rand(8, 8)},
    )
    plan = QuantPlan("", "", "w4")
    for node in model.graph:
        if node.op_type == "MatMul":
            plan.nodes[node.name or ""] = NodePlan(node.name or "", "MatMul", "weights")
    plan.values["w"] = ValuePlan("w", "weight", "uint4", "group", 0, group=4)
    assert [p.value for p in portions(model.graph, plan)] == ["x"]


def _numpy(weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What each portion reads, all rows of all samples."""
    x = np.concatenate([CONSTANTS["t"][feed["ids"][0]] for feed in FEEDS])
    p = (x @ weights["q"]) * (x @ weights["k"])
    return {"x": x, "p": p, "s": p @ weights["o"] + x}


def test_the_float_stream_alone() -> None:
    streams = _streams(_found(), drifting=False)
    expected = _numpy(CONSTANTS)
    for index, name in enumerate("xps"):
        streams.reach(index)
        seen = streams.seen(index, range(5))
        streams.put(index, {})
        assert seen.rows == 15
        assert seen.drift is None
        assert np.allclose(seen.gram, expected[name].T @ expected[name] / 15, rtol=1e-4, atol=1e-4)


def test_the_second_stream_reads_what_was_put() -> None:
    """Its Gram matrix is that of the changed input, and the drift is what the change did."""
    changed = {n: a + 0.1 * rand(*a.shape, seed=9) for n, a in CONSTANTS.items()}
    streams = _streams(_found(), drifting=True)
    floats, made = _numpy(CONSTANTS), _numpy(changed)
    for index, name in enumerate("xps"):
        streams.reach(index)
        seen = streams.seen(index, range(5))
        x, y = floats[name], made[name]
        assert np.allclose(seen.gram, y.T @ y / 15, rtol=1e-3, atol=1e-3)
        if index:
            assert seen.drift is not None
            assert np.allclose(seen.drift, y.T @ (x - y) / 15, rtol=1e-2, atol=1e-3)
        streams.put(index, {s.name: changed[s.name] for s in _found()[index].layers})


def test_some_samples_only() -> None:
    streams = _streams(_found(), drifting=False)
    streams.reach(0)
    x = CONSTANTS["t"][FEEDS[2]["ids"][0]]
    assert np.allclose(streams.seen(0, range(2, 3)).gram, x.T @ x / 3, rtol=1e-4)


def test_a_ridge_counts_errors_by_themselves() -> None:
    streams = _streams(_found(), drifting=False)
    streams.reach(0)
    seen = streams.seen(0, range(5))
    more = seen.ridged(0.5).gram - seen.gram
    assert more == pytest.approx(0.5 * np.mean(np.diagonal(seen.gram)) * np.eye(8), abs=1e-5)
