"""Int8 values read by int16 operators: one QUANTIZE at the border, exact under every kernel."""

from typing import Final

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.plan import QuantParams
from qcompile.passes.plan.patterns.detection_tail import find_tails
from qcompile.passes.plan.shared_groups import widened
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflite.runtime import Kernels
from tests.detectors import anchored, binned, pictures
from tests.passes.planning import planned, session
from tests.targets.tflite.lowering import lowered, parse
from tests.targets.tflite.reference.one_op import OneOp, Spec, differences, litert

TARGET = load_target("tflite-arm64")
KERNELS: Final[tuple[Kernels, ...]] = ("reference", "builtin", "xnnpack")


@settings(max_examples=60, deadline=None)
@given(st.integers(-128, 127), st.floats(2.0**-20, 2.0**10, width=32))
def test_the_requantize_is_exact(zero: int, scale: float) -> None:
    """``128 * (q - z)`` for all integers, by LiteRT's kernels and by ours of each arithmetic."""
    params = QuantParams(np.asarray(scale, np.float32), np.asarray(zero))
    wide = widened(params)
    # As many as no block of a vectorized kernel divides, so that its remainder is met as well.
    q = np.arange(-128, 128).astype(np.int8).reshape(1, -1)[:, :253]
    one = OneOp(
        "QUANTIZE",
        [Spec(q.shape, "int8", params.scale, params.zero_point)],
        [Spec(q.shape, "int16", wide.scale, wide.zero_point)],
        {"in0": q},
        Options("QuantizeOptions", {}),
        version=2,
    )
    want = 128 * (q.astype(np.int64) - zero)
    for kernels in KERNELS:
        (got,) = litert(one.data(), one.feeds, kernels).values()
        assert got.dtype == np.int16
        np.testing.assert_array_equal(got, want)
        assert not differences(one, kernels).any()


def test_the_border_is_one_operator() -> None:
    model = parse(
        "g (float[1, 4, 6, 6] x) => (float[] y) { c = Conv (x, w) m = Mul (c, k) y = Add (m, c) }",
        {
            "w": np.ones((4, 4, 1, 1), np.float32),
            "k": np.full((1, 4, 1, 1), 0.3, np.float32),
        },
    )
    feeds = [{"x": np.random.default_rng(i).normal(size=(1, 4, 6, 6)).astype(np.float32)}
             for i in range(3)]  # fmt: skip
    chosen = {n.name or "": "asked for" for n in model.graph if n.op_type != "Conv"}
    made = planned(model, feeds, target=TARGET, ends="int8", wide_nodes=chosen)
    run = lowered(made.qdq(["x", "y"]))
    assert run.ops == ["CONV_2D", "QUANTIZE", "MUL", "ADD"]
    graph = read_graph(run.lowered.data)
    kinds = [graph.tensors[op.outputs[0]].dtype for op in graph.operators]
    assert kinds == ["int8", "int16", "int16", "int16"]


@pytest.mark.parametrize("detector", [anchored, binned])
@pytest.mark.parametrize("runtime", KERNELS)
def test_tails_of_detectors(detector: object, runtime: str) -> None:
    """Integers alone, and those of the QDQ graph but for few steps of 32767."""
    model: ir.Model = detector()  # type: ignore[operator]
    (tail,) = find_tails(model.graph, TARGET)
    wide = dict.fromkeys(tail.nodes, tail.reason)
    made = planned(model, pictures(4), target=TARGET, ends="int8", wide_nodes=wide)
    assert {node.mode for node in made.plan.nodes.values()} <= {"integer", "absorbed"}
    qdq = made.qdq(["x", "y"])
    run = lowered(qdq)
    graph = read_graph(run.lowered.data)
    assert not [t.name for t in graph.tensors if t.dtype == "float32"]
    x = np.random.default_rng(5).integers(-128, 128, (1, 3, 32, 32), dtype=np.int8)
    (got,), (want,) = run.outputs({"x": x}, runtime), session(qdq).run({"x": x})
    assert got.dtype == want.dtype == np.int16
    # Where a convolution in front rounds a tie the other way, 128 steps of int16 go with it.
    found = np.abs(got.astype(np.int64) - want)
    assert np.quantile(found, 0.9) <= 1
    assert found.max() <= 128
    assert found.mean() <= 2
