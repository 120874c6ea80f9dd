"""Weights become look-ups of codes: what ONNX Runtime computes with them are the codes' numbers."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.numerics.codebook import of_levels
from qcompile.core.plan import QuantPlan
from qcompile.passes.plan.codebooks import choose_levels, plan_codes
from qcompile.passes.quantize.store_codes import StoreCodes, codes_of
from qcompile.targets.onnxruntime.prove import optimized_graph
from tests.passes.planning import session
from tests.passes.prepare.checking import ops, parse, rand

LAYERS = {
    "conv": ("g (float[1, 8, 6, 6] x) => (float[] y) { y = Conv (x, w) }", (8, 8, 5, 5)),
    "turned": ("g (float[1, 8, 6, 6] x) => (float[] y) { y = ConvTranspose (x, w) }", (8, 9, 4, 4)),
    "matmul": ("g (float[3, 40] x) => (float[] y) { y = MatMul (x, w) }", (40, 33)),
    "gemm": ("g (float[3, 40] x) => (float[] y) { y = Gemm <transB = 1> (x, w) }", (33, 40)),
    "stack": ("g (float[2, 3, 40] x) => (float[] y) { y = MatMul (x, w) }", (2, 40, 33)),
}  # fmt: skip


def planned(
    model: ir.Model, bits: int, form: str = "codebook", granularity: str | None = None
) -> QuantPlan:
    plan = QuantPlan("", "", "w4", weights=form)
    plan_codes(model.graph, plan, bits, {})
    choose_levels(model.graph, plan, form, granularity, {})
    return plan


def meant(plan: QuantPlan, name: str, array: np.ndarray) -> np.ndarray:
    """The weight that a plan's entry stands for."""
    entry = plan.values[name]
    assert entry.params is not None and entry.params.levels is not None
    found = of_levels(codes_of(array, entry), entry.params.levels, entry.axis)
    shape = [-1 if axis == entry.axis else 1 for axis in range(array.ndim)]
    return found * entry.params.scale.reshape(shape if entry.params.scale.ndim else ())


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_the_runtime_reads_the_plans_numbers(layer: str, bits: int, granularity: str) -> None:
    text, shape = LAYERS[layer]
    weight = rand(*shape)
    model = parse(text, {"w": weight})
    plan = planned(model, bits, granularity=granularity)
    other = parse(text, {"w": meant(plan, "w", weight)})
    assert StoreCodes(plan)(model).modified
    assert not StoreCodes(plan)(model).modified
    feeds = {v.name or "": rand(*v.shape.numpy()) for v in model.graph.inputs}
    (got,), (want,) = session(model).run(feeds), session(other).run(feeds)
    assert np.array_equal(got, want)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_powers_of_two_are_codes_times_a_scale(bits: int) -> None:
    text, shape = LAYERS["matmul"]
    weight = rand(*shape)
    model = parse(text, {"w": weight})
    plan = planned(model, bits, "pow2")
    real = meant(plan, "w", weight)
    scale = plan.values["w"].params.scale
    mantissas, _ = np.frexp(np.abs(real / scale))
    assert set(np.unique(mantissas)) <= {0.0, 0.5}
    StoreCodes(plan)(model)
    feeds = {"x": rand(3, 40)}
    (got,) = session(model).run(feeds)
    np.testing.assert_allclose(got, feeds["x"] @ real, rtol=0, atol=1e-5 * np.abs(got).max())


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from([2, 3, 4, 8]), st.integers(0, 99))
def test_any_number_of_codes_comes_back_bit_by_bit(
    rows: int, columns: int, bits: int, seed: int
) -> None:
    """The weight itself is the output: what ONNX Runtime unpacks is what was packed."""
    weight = np.random.default_rng(seed).normal(size=(64 * rows // 64 + 32, columns + 32))
    model = parse("g (float[1] s) => (float[] y) { y = MatMul (e, w) }".replace(
        "(float[1] s)", f"(float[{weight.shape[0]}, {weight.shape[0]}] e)"
    ), {"w": weight.astype(np.float32)})  # fmt: skip
    plan = planned(model, bits)
    want = meant(plan, "w", weight.astype(np.float32))
    StoreCodes(plan)(model)
    (got,) = session(model).run({"e": np.eye(weight.shape[0], dtype=np.float32)})
    assert np.array_equal(got, want)


def test_onnx_runtime_folds_it_to_the_float_layer() -> None:
    text, shape = LAYERS["conv"]
    model = parse(text, {"w": rand(*shape)})
    plan = planned(model, 3, granularity="channel")
    StoreCodes(plan)(model)
    assert {"BitShift", "BitwiseAnd", "Gather"} <= set(ops(model))
    data = ir.to_proto(model).SerializeToString()
    assert [node.op_type for node in optimized_graph(data).node] == ["Conv"]
    assert len(data) < 0.3 * 4 * np.prod(shape) + 4096


def test_a_tied_head_is_stored_once() -> None:
    table = rand(128, 40)
    model = parse(
        """g (int64[3] i) => (float[] y) {
            e = Gather (t, i)
            y = MatMul (e, h)
        }""",
        {"t": table, "h": np.ascontiguousarray(table.T)},
    )
    for form, granularity in (("codebook", None), ("codebook", "channel"), ("pow2", None)):
        plan, made = planned(model, 4, form, granularity), model.clone()
        StoreCodes(plan)(made)
        assert ops(made).count("Transpose") == 1
        codes = [v for n, v in made.graph.initializers.items() if "_codes" in n]
        assert len(codes) == 1
        (got,) = session(made).run({"i": np.arange(3)})
        real = meant(plan, "h", np.ascontiguousarray(table.T))
        np.testing.assert_allclose(got, real.T[:3] @ real, rtol=1e-5, atol=1e-5)


def test_what_stays_float() -> None:
    model = parse(
        """g (float[3, 40] x) => (float[] y, float[] z) {
            y = MatMul (x, small)
            z = MatMul (x, kept)
        }""",
        {"small": rand(40, 20), "kept": rand(40, 33)},
    )
    plan = QuantPlan("", "", "w4", weights="codebook")
    node = next(n.name or "" for n in model.graph if n.outputs[0].name == "z")
    plan_codes(model.graph, plan, 4, {node: "asked for"})
    assert plan.values == {}
    assert plan.nodes == {}
    assert not StoreCodes(plan)(model).modified
