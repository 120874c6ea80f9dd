"""The scale, granularity and axis of every weight, and why."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.numerics.affine import dequantize, quantize
from qcompile.core.plan import QuantPlan, ValuePlan
from qcompile.passes.plan.safe_weights import make_weights_safe
from qcompile.passes.plan.weights import GRID_SCALE_KEY, choose_weights
from qcompile.targets.catalog import load_target
from tests.passes.planning import TARGET, draft
from tests.passes.prepare.checking import parse, rand

AVX2 = load_target("ort-x86-avx2")


def net(layer: str, x: str = "float[1, 4, 8, 8]", **constants: np.ndarray) -> ir.Model:
    return parse(f"g ({x} x) => (float[] y) {{ {layer} }}", constants)


def chosen(model: ir.Model, granularity: str | None = None) -> QuantPlan:
    plan = draft(model)
    choose_weights(model.graph, plan, TARGET, granularity)
    return plan


def uneven(*shape: int, axis: int = 0) -> np.ndarray:
    """Noise whose channels along an axis differ in size a hundredfold."""
    factors = np.logspace(0, 2, shape[axis]).astype(np.float32)
    return rand(*shape) * factors.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def scales(entry: ValuePlan) -> np.ndarray:
    assert entry.params is not None
    assert not entry.params.zero_point.any()
    assert entry.params.zero_point.shape == entry.params.scale.shape
    return entry.params.scale


@pytest.mark.parametrize(
    ("layer", "x", "shape", "axis"),
    [
        ("y = Conv (x, w)", "float[1, 4, 8, 8]", (6, 4, 3, 3), 0),
        ("y = Conv <group = 4> (x, w)", "float[1, 4, 8, 8]", (4, 1, 3, 3), 0),
        ("y = Gemm (x, w)", "float[2, 4]", (4, 6), 1),
        ("y = Gemm <transB = 1> (x, w)", "float[2, 4]", (6, 4), 0),
        ("y = MatMul (x, w)", "float[2, 5, 4]", (4, 6), 1),
    ],
)
def test_a_scale_an_output_channel_where_it_pays(layer, x, shape, axis):
    weight = uneven(*shape, axis=axis)
    entry = chosen(net(layer, x, w=weight)).values["w"]
    others = tuple(i for i in range(weight.ndim) if i != axis)
    assert (entry.granularity, entry.axis, entry.rule) == ("channel", axis, "absmax")
    wanted = (np.abs(weight).max(axis=others).astype(np.float64) / 127).astype(np.float32)
    assert np.array_equal(scales(entry), wanted)
    assert entry.reason.endswith(" dB better than one scale")


def test_one_scale_where_more_would_gain_nothing():
    weight = rand(6, 4, 3, 3)
    weight[:, 0, 0, 0] = 3.5  # every channel has the same range
    entry = chosen(net("y = Conv (x, w)", w=weight)).values["w"]
    assert (entry.granularity, entry.axis) == ("tensor", None)
    assert scales(entry).shape == ()
    assert entry.reason == "scales a channel would gain 0.0 dB"


@pytest.mark.parametrize(
    ("layer", "x", "shape"),
    [
        ("y = MatMul (x, w)", "float[2, 5, 4]", (2, 4, 6)),
        ("y = MatMul (x, w)", "float[5, 4]", (4,)),
    ],
)
def test_one_scale_where_the_kernel_takes_no_more(layer, x, shape):
    entry = chosen(net(layer, x, w=uneven(*shape)), "channel").values["w"]
    assert (entry.granularity, entry.reason) == ("tensor", "the kernel takes one scale a weight")


def test_dead_channels_do_not_hide_what_scales_a_channel_gain_the_others():
    weight = uneven(6, 4, 3, 3)
    weight[2] *= 1e-12
    entry = chosen(net("y = Conv (x, w)", w=weight)).values["w"]
    without = chosen(net("y = Conv (x, w)", w=np.delete(weight, 2, axis=0))).values["w"]
    assert entry.granularity == "channel"
    assert entry.reason == without.reason


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_the_granularity_asked_for(granularity):
    for weight in (rand(6, 4, 3, 3), uneven(6, 4, 3, 3)):
        entry = chosen(net("y = Conv (x, w)", w=weight), granularity).values["w"]
        assert (entry.granularity, entry.reason) == (granularity, "asked for")


def test_a_dead_channel_takes_the_median_scale():
    weight = uneven(5, 4, 1, 1)
    weight[1], weight[2] = 0, 1e-9
    entry = chosen(net("y = Conv (x, w)", w=weight)).values["w"]
    alive = scales(entry)[[0, 3, 4]]
    assert scales(entry)[1] == scales(entry)[2] == np.median(alive)
    dead = chosen(net("y = Conv (x, w)", w=np.zeros((5, 4, 1, 1), np.float32))).values["w"]
    assert scales(dead) == np.float32(1 / 127)


def test_one_weight_read_along_two_axes_has_one_scale():
    body = "a = MatMul (x, w) y = Gemm <transB = 1> (a, w)"
    entry = chosen(net(body, "float[4, 4]", w=uneven(4, 4))).values["w"]
    assert (entry.granularity, entry.reason) == ("tensor", "the kernel takes one scale a weight")


@pytest.mark.parametrize("other", ["Gather <axis = 0> (w, i)", "Add (w, w)", "Neg (w)"])
def test_readers_that_are_no_layers_do_not_matter(other):
    body = f"y = MatMul (x, w) z = {other}"
    model = net(body, "float[4, 4]", w=uneven(4, 4, axis=1), i=np.asarray([1], np.int64))
    entry = chosen(model).values["w"]
    assert (entry.granularity, entry.axis) == ("channel", 1)


def on_grid(shape: tuple[int, ...], scale: np.ndarray) -> np.ndarray:
    integers = np.random.default_rng(5).integers(-128, 128, shape)
    return (integers * scale.reshape(-1, *[1] * (len(shape) - 1))).astype(np.float32)


@pytest.mark.parametrize("scale", [[0.25], [0.25, 0.5, 0.125]])
def test_the_grid_a_weight_was_stored_on_is_kept(scale):
    weight = on_grid((3, 4, 1, 1), np.asarray(scale))
    model = net("y = Conv (x, w)", w=weight)
    text = ",".join(map(str, scale))
    model.graph.initializers["w"].metadata_props[GRID_SCALE_KEY] = text
    entry = chosen(model).values["w"]
    assert (entry.rule, entry.reason) == ("grid", "the file stores it on this grid: exact")
    assert scales(entry).reshape(-1).tolist() == scale
    params = entry.params
    assert params is not None
    integers = quantize(weight, params.scale, params.zero_point, "int8", entry.axis)
    assert np.array_equal(dequantize(integers, params.scale, params.zero_point, entry.axis), weight)


@pytest.mark.parametrize("scale", ["0.3", "0.5", "0.25,0.25", "0.25,0.5,0.5"])
def test_a_grid_that_the_weight_does_not_lie_on_is_not_believed(scale):
    model = net("y = Conv (x, w)", w=on_grid((3, 4, 1, 1), np.asarray([0.25, 0.5, 0.125])))
    model.graph.initializers["w"].metadata_props[GRID_SCALE_KEY] = scale
    assert chosen(model).values["w"].rule == "absmax"


def test_what_is_chosen_already_stays():
    model = net("y = Conv (x, w)", w=rand(6, 4, 3, 3))
    plan = chosen(model)
    before = plan.values["w"]
    choose_weights(model.graph, plan, TARGET, "channel")
    assert plan.values["w"] is before


@given(st.integers(0, 50), st.floats(-10, 10))
def test_choosing_per_channel_never_loses(seed, exponent):
    weight = rand(4, 8, seed=seed) * np.exp2(np.linspace(0, exponent, 4))[:, np.newaxis]
    model = net("y = Gemm <transB = 1> (x, w)", "float[2, 8]", w=weight.astype(np.float32))

    def noise(granularity: str | None) -> float:
        params = chosen(model, granularity).values["w"].params
        assert params is not None
        axis = 0 if params.scale.ndim else None
        w = weight.astype(np.float32)
        q = quantize(w, params.scale, params.zero_point, "int8", axis)
        error = dequantize(q, params.scale, params.zero_point, axis) - w
        return float((np.square(error).sum(1) / np.square(w).sum(1)).mean())

    # Where one scale is kept, it is within half a decibel of a scale a channel.
    assert noise(None) <= noise("channel") * 10**0.05 * (1 + 1e-6)


# --- saturation, over a plan -----------------------------------------------------------------


def test_nothing_is_done_for_a_target_that_does_not_saturate():
    model = net("y = Conv (x, w)", w=np.ones((4, 4, 1, 1), np.float32))
    plan = chosen(model)
    before = plan.values["w"]
    assert make_weights_safe(model.graph, plan, TARGET).layers_proven == 0
    assert plan.values["w"] is before


@pytest.mark.parametrize(
    ("layer", "x", "shape", "axis"),
    [
        ("y = Conv (x, w)", "float[1, 4, 8, 8]", (4, 4, 1, 1), 0),
        ("y = Gemm (x, w)", "float[2, 4]", (4, 4), 1),
        ("y = Gemm <transB = 1> (x, w)", "float[2, 4]", (4, 4), 0),
        ("y = MatMul (x, w)", "float[2, 4]", (4, 4), 1),
    ],
)
def test_only_the_channel_at_risk_changes(layer, x, shape, axis):
    weight = np.zeros(shape, np.float32)
    weight.reshape(4, 4)[:] = np.diag([1.0, 1.0, 1.0, 1.0])
    channel = np.moveaxis(weight, axis, 0)
    channel[1] = 0.9  # neighbours that meet: 115 + 115 steps of 1/127 against a limit of 128
    patient = replace(AVX2, saturation=replace(AVX2.saturation, alternative_cost={}))
    model = net(layer, x, w=weight)
    plan = draft(model, target=patient)
    choose_weights(model.graph, plan, patient, "tensor")
    count = make_weights_safe(model.graph, plan, patient)
    assert (count.layers_shrunk, count.channels_shrunk, count.layers_unsigned) == (1, 1, 0)
    entry = plan.values["w"]
    assert (entry.granularity, entry.axis) == ("channel", axis)
    assert (scales(entry) > np.float32(1 / 127)).tolist() == [False, True, False, False]
    again = make_weights_safe(model.graph, plan, patient)
    assert (again.layers_proven, again.layers_shrunk) == (1, 0)


def test_a_weight_without_an_axis_of_channels_is_made_safe_whole():
    for shape in ((4,), (2, 4, 4)):
        model = net("y = MatMul (x, w)", "float[2, 4, 4]", w=np.ones(shape, np.float32))
        plan = draft(model, target=AVX2)
        choose_weights(model.graph, plan, AVX2)
        count = make_weights_safe(model.graph, plan, AVX2)
        assert count.layers_shrunk + count.layers_unsigned == 1
        entry = plan.values["w"]
        assert (entry.granularity, entry.axis) == ("tensor", None)
        assert entry.params is not None and entry.params.scale.shape == ()


def test_a_shared_weight_is_made_safe_for_each_of_its_layers():
    body = "a = Conv (x, w) y = Conv (a, w)"
    model = net(body, w=np.ones((4, 4, 1, 1), np.float32))
    plan = draft(model, target=AVX2)
    choose_weights(model.graph, plan, AVX2)
    count = make_weights_safe(model.graph, plan, AVX2)
    assert count.layers_proven == 1  # once it is safe for the first, it is for the second
    assert count.layers_shrunk + count.layers_unsigned == 1


def test_the_alternative_type_keeps_every_integer():
    model = net("y = Conv (x, w)", w=np.ones((4, 4, 1, 1), np.float32))
    hasty = replace(AVX2, saturation=replace(AVX2.saturation, worth=0.0))
    plan = draft(model, target=hasty)
    choose_weights(model.graph, plan, hasty)
    before = plan.values["w"].params
    assert make_weights_safe(model.graph, plan, hasty).layers_unsigned == 1
    entry = plan.values["w"]
    assert entry.dtype == "uint8"
    assert entry.params is not None and before is not None
    assert np.array_equal(entry.params.scale, before.scale)
    assert np.array_equal(entry.params.zero_point, before.zero_point + 128)


# --- weights of 4 and 2 bits ------------------------------------------------------------------


@pytest.mark.parametrize(("scheme", "high"), [("w4a8", 7), ("w2a8", 1)])
@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_narrow_weights_get_the_scale_of_least_error(
    scheme: str, high: int, granularity: str
) -> None:
    target = TARGET.under(scheme, simulate=True)
    w = uneven(6, 4, 3, 3)
    model = net("y = Conv (x, w)", w=w)
    plan = draft(model, target=target)
    choose_weights(model.graph, plan, target, granularity)
    entry = plan.values["w"]
    assert (entry.rule, entry.granularity) == ("mse", granularity)
    rows = w.reshape(1 if granularity == "tensor" else 6, -1)
    for row, scale in zip(rows, scales(entry).reshape(-1), strict=True):

        def error(step: float, row: np.ndarray = row) -> float:
            kept = np.clip(np.rint(row / step), -high, high) * step
            return float(np.square(kept - row).sum())

        whole = float(np.abs(row).max()) / high
        others = [error(whole * share) for share in np.linspace(0.15, 1.2, 40)]
        assert error(float(scale)) <= 1.02 * min(others)
        assert error(float(scale)) <= error(whole)
