"""Ranges of layers in a row agree, the float function stays, and what cannot be scaled is left."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import QCompileError
from qcompile.passes.prepare.linear import layer_of
from qcompile.passes.transform.apply import changed_values
from qcompile.passes.transform.channels import find_groups
from qcompile.passes.transform.equalize import Equalize, find, request
from qcompile.passes.transform.magnitudes import Magnitudes
from tests.passes.prepare.checking import changed, inits, parse, rand, run, unchanged
from tests.passes.transform.gathering import gather


def uneven(*shape: int, axis: int = 0, seed: int = 0) -> np.ndarray:
    """Noise whose channels along an axis differ in size a hundredfold."""
    factors = np.logspace(0, 2, shape[axis]).astype(np.float32)
    return rand(*shape, seed=seed) * factors.reshape(
        [-1 if i == axis else 1 for i in range(len(shape))]
    )


def found(model: ir.Model, towards: float = 0.0) -> dict[str, np.ndarray]:
    return find(model, gather(model, request(model)), towards=towards)


def between(steps: str, **constants: np.ndarray) -> ir.Model:
    """A convolution, some steps from c to d, a convolution."""
    return parse(
        f"""g (float[N, 3, 8, 8] x) => (float[] y) {{
          c = Conv (x, w, b)
          {steps}
          y = Conv (d, w2, b2)
        }}""",
        {
            "w": uneven(4, 3, 3, 3),
            "b": rand(4),
            "w2": rand(5, 4, 1, 1),
            "b2": rand(5),
            **constants,
        },
    )


@pytest.mark.parametrize(
    "steps",
    [
        "d = Relu (c)",
        "d = LeakyRelu <alpha = 0.1> (c)",
        "d = PRelu (c, slope)",
        "r = Relu (c) d = MaxPool <kernel_shape = [2, 2]> (r)",
        "r = Relu (c) d = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (r)",
        "r = Relu (c) d = GlobalAveragePool (r)",
        "d = Identity (c)",
        "e = Add (c, map) d = Relu (e)",
        "p = Pad (c, pads) d = Relu (p)",
        "t = Transpose <perm = [0, 2, 3, 1]> (c) r = Relu (t) "
        "d = Transpose <perm = [0, 3, 1, 2]> (r)",
    ],
)
def test_what_a_factor_passes_through(steps):
    pads = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    model = between(steps, slope=rand(4, 1, 1), pads=pads, map=rand(1, 4, 6, 6))
    factors = found(model)
    assert list(factors) == ["c"]
    changed(Equalize(factors), model)


LAYERS = [
    ("float[N, 4, 8, 8]", "y0 = Conv <group = 4> (x, w, b)", (4, 1, 3, 3), 0),
    ("float[N, 4, 8, 8]", "y0 = Conv <group = 2> (x, w, b)", (4, 2, 3, 3), 0),
    ("float[N, 3, 8, 8]", "y0 = ConvTranspose (x, w, b)", (3, 4, 2, 2), 1),
]
READERS = [
    ("y = Conv <group = 4> (r, v)", (8, 1, 3, 3), 0),
    ("y = ConvTranspose <group = 2> (r, v)", (4, 3, 2, 2), 1),
    ("f = Flatten (r) y = Gemm (f, v)", None, 1),
    ("f = Flatten (r) y = Gemm <transB = 1, alpha = 0.5> (f, v)", None, 0),
    ("a = GlobalAveragePool (r) f = Reshape (a, two) y = MatMul (f, v)", (4, 6), 1),
    ("t = Transpose <perm = [0, 2, 3, 1]> (r) f = Flatten (t) y = Gemm (f, v)", None, 1),
]


@pytest.mark.parametrize(("x", "writer", "shape", "axis"), LAYERS)
@pytest.mark.parametrize(("reader", "weight", "_axis"), READERS)
def test_every_layer_writes_and_reads(x, writer, shape, axis, reader, weight, _axis):
    if weight is None:
        inside = 9 * 9 if "Transpose" in writer else 6 * 6
        weight = (6, 4 * inside) if "transB" in reader else (4 * inside, 6)
    model = parse(
        f"g ({x} x) => (float[] y) {{ {writer} r = Relu (y0) {reader} }}",
        {
            "w": uneven(*shape, axis=axis),
            "b": rand(4),
            "v": rand(*weight, seed=3),
            "two": np.array([0, 4]),
        },
    )
    factors = found(model)
    assert list(factors) == ["y0"]
    changed(Equalize(factors), model, tolerance=1e-5)


def test_ranges_agree_afterwards():
    model = between("d = Relu (c)")
    Equalize(found(model))(model)
    first, second = (layer_of(node) for node in model.graph if node.op_type == "Conv")
    written, read = Magnitudes(first).outputs, Magnitudes(second).inputs
    assert np.allclose(written / written.max(), read / read.max(), rtol=0.03)
    assert written.min() > 0.05  # a hundredth before


def test_no_activation_outgrows_its_group():
    model = between("d = Relu (c)", w2=uneven(5, 4, 1, 1, axis=1, seed=2) ** 3)
    before = gather(model, request(model))["d"]["channel absmax"].absmax
    Equalize(found(model))(model)
    after = gather(model, request(model))["d"]["channel absmax"].absmax
    assert after.max() <= before.max() * 1.0001


def test_members_of_a_residual_sum_share_one_factor():
    model = parse(
        """g (float[N, 3, 8, 8] x) => (float[] y) {
          c = Conv (x, w, b)
          r = Relu (c)
          q = Conv (r, v, b2)
          s = Add (r, q)
          y = Conv (s, u)
        }""",
        {
            "w": uneven(4, 3, 1, 1),
            "b": rand(4),
            "b2": rand(4, seed=9),
            "v": rand(4, 4, 1, 1),
            "u": rand(2, 4, 1, 1),
        },
    )
    factors = found(model)
    assert list(factors) == ["c"]
    assert changed_values(model, factors) == {"c", "r", "q", "s"}
    changed(Equalize(factors), model, tolerance=1e-5)


def test_a_constant_summand_is_scaled_too():
    model = between("e = Add (c, k) d = Relu (e)", k=rand(4, 1, 1))
    before = inits(model)["k"]
    factors = found(model)
    changed(Equalize(factors), model)
    assert np.allclose(inits(model)["k"].ravel() * factors["c"], before.ravel())


def test_one_side_of_a_product_carries_the_factor():
    model = between("n = Conv (x, gw) g = Sigmoid (n) d = Mul (g, c)", gw=rand(4, 3, 3, 3, seed=5))
    factors = found(model)
    assert list(factors) == ["c"]
    changed(Equalize(factors), model)


# --- Clip ------------------------------------------------------------------------------------


def clipped(limit: float) -> ir.Model:
    return between(
        "d = Clip (c, zero, top)",
        zero=np.float32(0),
        top=np.float32(limit),
        w=uneven(4, 3, 3, 3) / 10,
    )


def test_channels_that_reach_a_limit_keep_it():
    model = clipped(6.0)
    statistics = gather(model, request(model))
    reach = statistics["d"]["channel absmax"].absmax
    assert 0 < np.sum(reach >= 6) < 4
    factors = find(model, statistics)["c"]
    assert np.array_equal(factors[reach >= 6], np.ones(np.sum(reach >= 6), np.float32))
    assert np.all(reach / factors <= 6 * (1 + 1e-6))
    assert np.any(factors != 1)


@pytest.mark.parametrize("limit", [3.0, 30.0, 1e6])
def test_a_clip_keeps_what_calibration_saw(limit):
    model = clipped(limit)
    feeds = run(model)  # other samples than those below, which is why a limit may be met anew
    statistics = gather(model, request(model), scale=4.0)
    factors = find(model, statistics)
    if factors:
        Equalize(factors)(model)
        for a, b in zip(feeds, run(model), strict=True):
            assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max()


# --- what is left alone ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "fault"),
    [
        ("d = Sigmoid (c)", "Sigmoid n1_Sigmoid does not let a factor through"),
        ("d = Concat <axis = 1> (c)", "Concat n1_Concat does not let a factor through"),
        ("d = PRelu (c, c)", "does not let a factor through"),
        ("d = Mul (c, c)", "does not let a factor through"),
        ("e = Conv (x, w4) d = Mul (c, e)", "does not let a factor through"),
        ("d = Add (c, one)", "does not let a factor through"),
        ("d = Add (c, row)", "does not let a factor through"),
        ("d = Relu (c) e = Softmax (d)", "does not let a factor through"),
    ],
)
def test_what_stops_a_factor(steps, fault):
    extra = {"w4": rand(4, 3, 3, 3), "one": rand(1), "row": rand(6)}
    model = between(steps, **extra)
    assert found(model) == {}
    faults = [fault for group in find_groups(model.graph) for fault in group.faults]
    assert any(fault in found_fault for found_fault in faults), faults


def test_outputs_of_the_model_are_left():
    model = parse(
        "g (float[N, 3, 4, 4] x) => (float[] c, float[] y) { c = Conv (x, w) y = Conv (c, v) }",
        {"w": uneven(4, 3, 1, 1), "v": rand(2, 4, 1, 1)},
    )
    assert found(model) == {}
    unchanged(Equalize(), model)


def test_shared_weights_and_weights_on_a_grid_are_left():
    model = between("e = Conv (x, w, b) d = Add (c, e)")
    assert [group.key for group in find_groups(model.graph)] == ["y"]
    assert found(model) == {}
    model = between("d = Relu (c)")
    model.graph.initializers["w2"].metadata_props["qcompile.grid_scale"] = "0.5"
    (fault,) = find_groups(model.graph)[0].faults
    assert "integer grid" in fault
    assert found(model) == {}


def test_values_that_a_body_reads_are_left():
    model = parse(
        """g (float[N, 3, 4, 4] x, bool t) => (float[] y, float[] z) {
          c = Conv (x, w)
          y = Conv (c, v)
          z = If (t) <then_branch = a () => (float[] p) { p = Relu (c) },
                      else_branch = e () => (float[] q) { q = Neg (c) }>
        }""",
        {"w": uneven(4, 3, 1, 1), "v": rand(2, 4, 1, 1)},
    )
    (group,) = find_groups(model.graph)[:1]
    assert any("body" in fault for fault in group.faults)


def test_silent_channels_get_no_factor_of_their_own():
    w = uneven(4, 3, 3, 3)
    w[1] = 0
    w[2] *= 1e-20
    model = between("d = Relu (c)", w=w)
    factors = found(model)["c"]
    assert np.isfinite(factors).all()
    assert factors[1] == pytest.approx(factors[2])
    changed(Equalize({"c": factors}), model)


# --- the pass --------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-20, 20), min_size=4, max_size=4))
def test_powers_of_two_keep_every_bit(exponents):
    model = between("d = Relu (c)")
    before = run(model)
    Equalize({"c": np.exp2(np.asarray(exponents, np.float32))})(model)
    for a, b in zip(before, run(model), strict=True):
        assert np.array_equal(a, b)


def test_names_stay_and_unchanged_tensors_are_shared():
    model = between("d = Relu (c)")
    clone = model.clone()
    Equalize(found(model))(clone)
    assert [v.name for n in model.graph for v in n.outputs] == [
        v.name for n in clone.graph for v in n.outputs
    ]
    assert list(inits(model)) == list(inits(clone))
    before, after = (m.graph.initializers["b2"].const_value for m in (model, clone))
    assert before is after
    assert not np.array_equal(inits(model)["w"], inits(clone)["w"])


@pytest.mark.parametrize(
    ("factors", "message"),
    [
        ({"nothing": np.ones(4, np.float32)}, "no channels that can be scaled"),
        ({"c": np.ones(3, np.float32)}, "scales 3 channels of c .equalize.; it has 4"),
    ],
)
def test_factors_that_do_not_fit_are_refused(factors, message):
    with pytest.raises(Exception, match=message) as caught:
        Equalize(factors)(between("d = Relu (c)"))
    assert isinstance(caught.value.__cause__ or caught.value, QCompileError)
