"""An input becomes bytes on one grid, and the layers behind it do the rest."""

import numpy as np
import pytest

from qcompile.core.pixels import PIXELS_KEY, Pixels, pixels_from_json
from qcompile.passes.prepare.pixel_input import PixelInput
from tests.passes.prepare.checking import changed, ops, parse, rand, run, unchanged

MEANS, DEVIATIONS = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
COLOURS = PixelInput("x", MEANS, DEVIATIONS, 1)
HALF = PixelInput("x", (127.5,), (127.5,), 1)


def net(conv: str, shape: str = "N, 3, 9, 9", **constants: np.ndarray):
    made = {"w": rand(4, 3, 3, 3), "b": rand(4, seed=1), **constants}
    return parse(f"g (float[{shape}] x) => (float[A, B, C, D] y) {{ {conv} }}", made)


def note(model) -> Pixels:
    return pixels_from_json(model.metadata_props[PIXELS_KEY])["x"]


def test_a_whole_mean_changes_no_node() -> None:
    model = net("y = Conv<pads = [1, 1, 1, 1]>(x, w, b)")
    step = PixelInput("x", (128.0,), (64.0,), 1)
    assert step(model).modified
    assert ops(model) == ["Conv"]
    assert note(model) == Pixels("x", 1 / 64, 128, (128.0,), (64.0,), 1)
    unchanged(step, model)


def test_one_number_for_all_goes_into_the_bias() -> None:
    model = changed(HALF, net("y = Conv(x, w, b)"), 1e-5)
    assert ops(model) == ["Add", "Conv"]  # in front: what no artefact has
    assert note(model).zero_point == 128
    assert note(model).nodes == (model.graph[0].name,)


def test_numbers_of_channels_go_into_weights_and_bias() -> None:
    model = changed(COLOURS, net("y = Conv(x, w)"), 1e-5)
    assert ops(model) == ["Mul", "Add", "Conv"]


def test_groups_take_their_own_channels() -> None:
    model = changed(
        COLOURS, net("y = Conv<group = 3>(x, w, b)", w=rand(6, 1, 3, 3), b=rand(6)), 1e-5
    )
    assert ops(model) == ["Mul", "Add", "Conv"]


def test_channels_last_through_a_transpose() -> None:
    step = PixelInput("x", MEANS, DEVIATIONS, 3)
    body = "t = Transpose<perm = [0, 3, 1, 2]>(x) y = Conv(t, w, b)"
    model = changed(step, net(body, "N, 9, 9, 3"), 1e-5)
    assert ops(model) == ["Mul", "Add", "Transpose", "Conv"]


def test_far_from_the_mean_padding_keeps_the_shift_in_front() -> None:
    model = changed(COLOURS, net("y = Conv<pads = [1, 1, 1, 1]>(x, w, b)"), 1e-5)
    assert ops(model) == ["Mul", "Add", "Add", "Conv"]
    assert len(note(model).nodes) == 2


def test_near_the_mean_padding_is_half_a_byte_off_at_the_border_alone() -> None:
    model = net("y = Conv<pads = [1, 1, 1, 1]>(x, w, b)")
    (before,) = run(model)
    assert HALF(model).modified
    (after,) = run(model)
    inside = np.abs(after - before)[:, :, 1:-1, 1:-1].max()
    border = np.abs(after - before).max()
    bound = 0.5 / 127.5 * np.abs(rand(4, 3, 3, 3)).sum((1, 2, 3)).max()
    assert inside <= 1e-5 * np.abs(before).max()
    assert inside < border <= bound


@pytest.mark.parametrize(
    "body",
    [
        "c = Conv(x, w, b) t = Tanh(x) r = ReduceMax(t) y = Add(c, r)",
        "s = Relu(x) y = Conv(s, w, b)",
        "y = Conv(x, w, r)",
    ],
)
def test_what_else_reads_it_gets_floats_from_a_mul_and_an_add(body: str) -> None:
    extra = "r = ReduceMax<keepdims = 0>(x, axes) " if "w, r" in body else ""
    constants = {"axes": np.array([0, 2, 3]), "w": rand(3, 3, 3, 3), "b": rand(3)}
    model = changed(COLOURS, net(extra + body, **constants), 1e-5)
    assert ops(model)[:4] == ["Mul", "Add", "Mul", "Add"]


def test_left_alone() -> None:
    unchanged(PixelInput("z", (1.0,), (1.0,), 1), net("y = Conv(x, w)"))
    unchanged(HALF, parse("g (double[N, 3] x) => (double[N, 3] y) { y = Relu (x) }"))
    model = net("y = Conv(x, w)")
    model.graph.outputs.append(model.graph.inputs[0])
    unchanged(HALF, model)
