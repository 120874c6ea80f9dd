"""Rounding in graph order: outputs come closer, biases fit the integers, and what is left alone."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core import graph as g
from qcompile.core.numerics.saturation import channels_at_risk
from qcompile.core.statistics.base import Statistics
from qcompile.core.units import units
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.safe_weights import make_weights_safe
from qcompile.passes.plan.weights import GRID_SCALE_KEY, choose_weights
from qcompile.passes.rounding import graph_order
from qcompile.passes.rounding.bias_correction import correct_biases
from qcompile.passes.rounding.graph_order import Rounder, Rounding, round_and_correct
from qcompile.passes.rounding.nearest import weight_integers
from qcompile.targets.catalog import load_target
from tests.passes.planning import EXECUTOR, TARGET, Feed, Planned, draft, pictures, planned
from tests.passes.prepare.checking import parse, rand
from tests.passes.rounding.nets import LAYERS, convs, half_steps, mean_errors

ROUNDERS: tuple[Rounder, ...] = ("gptq", "reconstruct")


def noise(count: int = 8) -> list[Feed]:
    return pictures(1, 4, 10, 10, count=count)


def in_four_bits(done: Planned) -> Planned:
    """The same plan with weights of 4 bits."""
    for unit in units(done.model.graph, done.plan):
        if unit.weight is not None:
            entry = done.plan.values[unit.weight.name or ""]
            done.plan.values[entry.name] = replace(entry, dtype="int4", params=None)
    choose_weights(done.model.graph, done.plan, TARGET)
    fit_biases(done.model.graph, done.plan)
    return done


def rounded(
    done: Planned,
    rounder: Rounder,
    threads: int = 1,
    statistics: Statistics | None = None,
) -> Rounding:
    return round_and_correct(
        done.model,
        done.plan,
        EXECUTOR,
        done.feeds,
        done.statistics if statistics is None else statistics,
        target=TARGET,
        rounder=rounder,
        threads=threads,
    )


def error(done: Planned, feeds: Sequence[Feed]) -> float:
    """Mean square error of the first output."""
    a, b = EXECUTOR.load(done.model), EXECUTOR.load(done.qdq(), exact=True)
    return float(np.mean([np.square(a.run(f)[0] - b.run(f)[0]).mean() for f in feeds]))


def test_nearest_is_bias_correction_alone():
    done, other = planned(convs(), noise()), planned(convs(), noise())
    wanted = correct_biases(
        other.model, other.plan, EXECUTOR, other.feeds, other.statistics, threads=2
    )
    assert rounded(done, "nearest") == Rounding()
    assert done.plan.rounded == {}
    assert {k: v.tobytes() for k, v in done.plan.corrections.items()} == {
        k: v.tobytes() for k, v in wanted.items()
    }


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("rounder", ROUNDERS)
def test_the_outputs_come_closer_on_samples_it_has_not_seen(rounder, bits):
    done = planned(convs(), noise(24))
    if bits == 4:
        done = in_four_bits(done)
    unseen = noise(44)[24:]
    rounded(done, "nearest")
    before = error(done, unseen)
    found = rounded(done, rounder)
    assert set(done.plan.rounded) == {"w1", "w2", "w3", "w4"}
    assert all(after < nearest for nearest, after in found.errors.values())
    # With weights of 8 bits most of the error is the activations'.
    assert error(done, unseen) < before * (0.6 if bits == 4 else 0.97)


def test_reconstruction_is_no_worse_than_gptq():
    sums = []
    for rounder in ROUNDERS:
        found = rounded(planned(convs(), noise()), rounder)
        sums.append(next(iter(found.errors.values())))  # the first layer: of equal inputs
    assert sums[1][0] == sums[0][0]
    assert sums[1][1] < sums[0][1]


@pytest.mark.parametrize("rounder", ROUNDERS)
def test_biases_are_corrected_for_the_integers_that_ship(rounder):
    done = in_four_bits(planned(convs(), noise()))
    rounded(done, rounder)
    after, bound = mean_errors(done, LAYERS), half_steps(done.plan, LAYERS)
    assert all(np.all(np.abs(after[n]) <= bound[n] + 4e-6) for n in LAYERS)


def test_without_means_the_bias_is_left_and_the_error_counts_whole():
    done = in_four_bits(planned(convs(), noise()))
    before = mean_errors(done, LAYERS)
    rounded(done, "gptq", statistics={})
    assert done.plan.corrections == {}
    after = mean_errors(done, LAYERS)
    assert np.abs(after["c4"]).mean() < np.abs(before["c4"]).mean() / 2


@pytest.mark.parametrize("rounder", ROUNDERS)
def test_equal_bytes_for_any_number_of_threads(rounder):
    found = []
    for threads in (1, 3):
        done = in_four_bits(planned(convs(), noise(9)))
        rounded(done, rounder, threads)
        plan = done.plan
        found.append({k: v.tobytes() for k, v in (plan.rounded | plan.corrections).items()})
    assert found[0] == found[1]


def test_a_product_without_a_bias_is_rounded():
    text = "g (float[5, 16] x) => (float[] y) { p = MatMul (x, w) t = Tanh (p) y = MatMul (t, v) }"
    constants = {"w": rand(16, 16) / 4, "v": rand(16, 8, seed=3) / 4}
    done = in_four_bits(planned(parse(text, constants), pictures(5, 16, count=12)))
    before = error(done, done.feeds)
    rounded(done, "gptq")
    assert set(done.plan.rounded) == {"w", "v"}
    assert error(done, done.feeds) < before * 0.8


def test_a_dynamic_product_is_rounded_on_floats():
    text = "g (float[5, 16] x) => (float[] y) { y = MatMul (x, w) }"
    model = parse(text, {"w": rand(16, 16) / 4})
    plan = draft(model, target=load_target("ort-x86-vnni"), scheme="w8a8-dynamic")
    plan.values["w"] = replace(plan.values["w"], dtype="int4")
    choose_weights(model.graph, plan, load_target("ort-x86-vnni"))
    done = Planned(model, plan, {}, pictures(5, 16, count=12))
    rounded(done, "reconstruct")
    assert set(plan.rounded) == {"w"}


LEFT = {
    "transposed": ("y = Gemm <transA = 1> (x, w)", "it transposes its input"),
    "grid": ("y = MatMul (x, w)", "it lies on its grid already"),
    "shared": ("a = MatMul (x, w) t = Tanh (a) y = MatMul (t, w)", "several layers read it"),
    "deep": ("y = MatMul (x, w)", "with 8 inputs an output it is too large"),
}


@pytest.mark.parametrize("name", LEFT)
def test_weights_that_are_left_alone(name, monkeypatch):
    body, why = LEFT[name]
    weight = np.rint(rand(8, 8) * 32).clip(-127, 127).astype(np.float32) / 64
    model = parse(f"g (float[8, 8] x) => (float[] y) {{ {body} }}", {"w": weight})
    if name == "grid":
        model.graph.initializers["w"].metadata_props[GRID_SCALE_KEY] = str(1 / 64)
    if name == "deep":
        monkeypatch.setattr("qcompile.passes.rounding.layer.MOST_DEPTH", 7)
    done = planned(model, pictures(8, 8))
    found = rounded(done, "gptq")
    assert set(found.left.values()) == {why}
    assert done.plan.rounded == found.errors == {}


def test_a_layer_whose_sums_no_longer_fit_keeps_the_nearest(monkeypatch):
    monkeypatch.setattr(graph_order, "is_proven", lambda unit, *_: unit.weight.name != "w3")
    done = planned(convs(), noise())
    found = rounded(done, "gptq")
    assert set(done.plan.rounded) == {"w1", "w2", "w4"}
    ratios = [after / before for before, after in found.errors.values()]
    assert sorted(ratios)[-1] == 1.0


def test_an_output_that_gains_nothing_keeps_the_nearest():
    """Inputs that do not depend on each other: nearest is the best there is."""
    weight = rand(4, 4)
    model = parse("g (float[4, 4] x) => (float[] y) { y = MatMul (x, w) }", {"w": weight})
    feeds = [{"x": np.eye(4, dtype=np.float32)} for _ in range(4)]
    done = planned(model, feeds)
    found = rounded(done, "reconstruct")
    assert done.plan.rounded == {}
    ((before, after),) = found.errors.values()
    assert before == after


@pytest.mark.parametrize("rounder", ROUNDERS)
def test_no_sum_can_saturate(rounder):
    """Two large weights of one sign meet: the nearest integers were made safe, and stay so."""
    target = load_target("ort-x86-avx2")
    weight = np.abs(rand(16, 8, 3, 3, seed=3)) + 0.6
    text = "g (float[1, 8, 9, 9] x) => (float[] y) { c = Conv (x, w, b) y = Relu (c) }"
    model = parse(text, {"w": weight, "b": rand(16)})
    done = planned(model, pictures(1, 8, 9, 9), target=target)
    make_weights_safe(model.graph, done.plan, replace(target, saturation=_no_other_type(target)))
    fit_biases(model.graph, done.plan)
    round_and_correct(
        done.model,
        done.plan,
        EXECUTOR,
        done.feeds,
        done.statistics,
        target=target,
        rounder=rounder,
    )
    entry = done.plan.values["w"]
    assert entry.dtype == "int8"
    assert target.saturation is not None
    integers = done.plan.rounded["w"]
    assert integers.dtype == np.int8 and integers.min() >= -127
    assert not channels_at_risk(integers, 0, "neighbours", target.saturation).any()
    changed = np.any(integers != weight_integers(weight, entry, None), axis=(1, 2, 3))
    assert changed.mean() > 0.5


def _no_other_type(target):
    assert target.saturation is not None
    return replace(target.saturation, alternative_cost={})


def test_the_float_graph_is_kept():
    done = in_four_bits(planned(convs(), noise()))
    before = g.fingerprint(done.model)
    rounded(done, "reconstruct")
    assert g.fingerprint(done.model) == before
    assert isinstance(done.model, ir.Model)
