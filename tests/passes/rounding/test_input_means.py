"""Which mean of its input a layer needs, and that both forms agree where both are exact."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.statistics.channel_mean import ChannelMean
from qcompile.core.statistics.mean_tensor import MeanTensor
from qcompile.core.units import Unit, units
from qcompile.passes.rounding import input_means
from qcompile.passes.rounding.bias_correction import mean_request
from qcompile.passes.rounding.input_means import MeanForm, choose_forms
from tests.passes.planning import draft
from tests.passes.prepare.checking import parse, rand

CONSTANTS = {
    "w1": rand(4, 4, 1, 1),
    "w3": rand(4, 4, 3, 3),
    "w13": rand(4, 4, 1, 3),
    "m": rand(8, 8),
    "b": rand(4),
    "mb": rand(8),
}


def layers(body: str, x: str = "float[1, 4, 8, 8]") -> list[Unit]:
    model = parse(f"g ({x} x) => (float[] y) {{ {body} }}", CONSTANTS)
    return list(units(model.graph, draft(model)))


def form(body: str, x: str = "float[1, 4, 8, 8]") -> MeanForm:
    (unit,) = layers(body, x)
    return choose_forms([unit])[unit.node]


@pytest.mark.parametrize(
    ("body", "x", "whole", "axis"),
    [
        ("y = Conv (x, w3, b)", "float[1, 4, 8, 8]", True, 1),
        ("y = Conv (x, w13, b)", "float[1, 4, 8, 8]", True, 1),
        ("y = Conv (x, w1, b)", "float[1, 4, 8, 8]", False, 1),
        ("y = Conv <strides = [1, 1]> (x, w1, b)", "float[1, 4, 8, 8]", False, 1),
        ("y = Conv <strides = [1, 2]> (x, w1, b)", "float[1, 4, 8, 8]", True, 1),
        ("y = Conv <pads = [0, 0, 0, 1]> (x, w1, b)", "float[1, 4, 8, 8]", True, 1),
        ("y = Conv (x, w3, b)", "float[N, 4, 8, 8]", True, 1),
        ("y = Conv (x, w3, b)", "float[N, 4, H, W]", True, 1),
        ("y = Conv (x, w3, b)", "float[1, 4, 2000, 2000]", False, 1),
        ("y = Conv (x, w3, b)", "float[1, 4, 9000, W]", False, 1),
        ("y = Gemm (x, m, mb)", "float[5, 8]", False, -1),
        ("p = MatMul (x, m) y = Add (p, mb)", "float[1, 5, 8]", False, -1),
    ],
)
def test_the_form_of_one_layer(body, x, whole, axis):
    found = form(body, x)
    assert (found.whole, found.axis) == (whole, axis)
    statistic = found.factory(3)()
    assert isinstance(statistic, MeanTensor if whole else ChannelMean)
    assert statistic.stop == 3


def test_a_shape_that_is_not_known_is_too_large():
    (unit,) = layers("y = Conv (x, w3, b)")
    unit.node.inputs[0].shape = None
    assert not choose_forms([unit])[unit.node].whole


def test_small_tensors_first_until_enough_are_held(monkeypatch):
    body = """
        a = Conv (x, w3, b)
        c = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (a, w3, b)
        y = Conv (c, w3, b)
    """
    found = layers(body)
    sizes = [4 * 64, 4 * 36, 4 * 9]
    for budget, wanted in [
        (sum(sizes), [True, True, True]),
        (sum(sizes) - 1, [False, True, True]),
        (sizes[2], [False, False, True]),
        (0, [False, False, False]),
    ]:
        monkeypatch.setattr(input_means, "ELEMENTS", budget)
        forms = choose_forms(found)
        assert [forms[u.node].whole for u in found] == wanted


def test_readers_of_one_value_share_its_tensor_but_not_their_channel_means():
    body = "c = Conv (x, w3, b) d = Conv (x, w1, b) e = MatMul (x, m) y = Add (e, mb)"
    found = layers(body)
    forms = choose_forms(found)
    assert [forms[u.node].whole for u in found] == [True, True, True]
    found = layers("d = Conv (x, w1, b) e = MatMul (x, m) y = Add (e, mb)")
    forms = choose_forms(found)
    assert [forms[u.node].statistic for u in found] == ["mean along axis 1", "mean along axis -1"]


def test_what_is_asked_of_calibration():
    body = "c = Conv (x, w1, b) d = Conv (c, w3, b) t = Conv (d, w1) y = Tanh (t)"
    model = parse(f"g (float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", CONSTANTS)
    request = mean_request(model.graph, draft(model), 5)
    assert {n: list(w) for n, w in request.items()} == {"x": ["mean along axis 1"], "c": ["mean"]}
    assert isinstance(request["c"]["mean"](), MeanTensor)


@pytest.mark.parametrize(
    ("body", "x", "shape"),
    [
        ("y = Conv (x, w1, b)", "float[1, 4, 8, 8]", (1, 4, 1, 1)),
        ("y = Conv (x, w3, b)", "float[1, 4, 2000, 2000]", (1, 4, 3, 3)),
        ("y = Conv <dilations = [2, 3]> (x, w3, b)", "float[1, 4, 2000, 2000]", (1, 4, 5, 7)),
        ("y = Gemm (x, m, mb)", "float[5, 8]", (1, 8)),
    ],
)
def test_channel_means_are_spread_over_one_output_position(body, x, shape):
    found = form(body, x)
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((2, *shape[1:])).astype(np.float32) for _ in range(3)]
    (mean,) = found.of(samples, len(samples))
    assert mean.x.shape == shape
    assert mean.x.dtype == np.float32
    axis = found.axis % len(shape)
    wanted = np.concatenate(samples).mean(tuple(i for i in range(len(shape)) if i != axis))
    moved = np.moveaxis(mean.x, axis, 0).reshape(len(wanted), -1)
    assert np.abs(moved - wanted[:, np.newaxis]).max() < 1e-6


def test_both_forms_of_a_layer_without_borders_agree():
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((1, 4, 8, 8)).astype(np.float32) for _ in range(7)]
    (unit,) = layers("y = Conv (x, w1, b)")
    (tensor,) = MeanForm(unit, True).of(samples, 7)
    (channel,) = MeanForm(unit, False).of(samples, 7)
    assert (tensor.x.shape, tensor.count) == ((1, 4, 8, 8), 7)
    # The layer is linear: its mean output is its output for either mean.
    a = np.einsum("oc,nchw->o", CONSTANTS["w1"][:, :, 0, 0], tensor.x) / 64
    b = CONSTANTS["w1"][:, :, 0, 0] @ channel.x[0, :, 0, 0]
    assert np.abs(a - b).max() < 1e-6


def test_samples_behind_the_last_one_are_not_looked_at():
    found = form("y = Conv (x, w1, b)")
    samples = [np.full((1, 4, 8, 8), k, np.float32) for k in (1, 2, 1000)]
    (mean,) = found.of(samples, 2)
    assert mean.x.reshape(-1).tolist() == [1.5] * 4
    assert found.of([], 2) == []


def test_a_value_has_no_owner_but_its_layer():
    found = form("y = Conv (x, w1, b)")
    assert isinstance(found.value, ir.Value)
    assert found.value.name == "x"
