"""In-order bias correction: the mean error of every layer is gone, whatever rounding made it."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.graph import fingerprint
from qcompile.core.plan import QuantPlan
from qcompile.core.plan_file import to_json
from qcompile.passes.rounding import input_means
from qcompile.passes.rounding.bias_correction import correct_biases
from tests.passes.planning import EXECUTOR, Feed, Planned, pictures, planned
from tests.passes.prepare.checking import parse, rand
from tests.passes.rounding.nets import (
    CONSTANTS,
    LAYERS,
    convs,
    half_steps,
    mean_errors,
    round_down,
    worst,
)


def corrected(done: Planned, threads: int = 1) -> dict[str, np.ndarray]:
    return correct_biases(
        done.model, done.plan, EXECUTOR, done.feeds, done.statistics, threads=threads
    )


def badly_rounded(model: ir.Model, feeds: Sequence[Feed], **options: object) -> Planned:
    done = planned(model, feeds, **options)
    round_down(done)
    return done


def noise(count: int = 6) -> list[Feed]:
    return pictures(1, 4, 10, 10, count=count)


def test_the_mean_error_of_every_layer_is_within_half_a_step_of_its_bias():
    done = badly_rounded(convs(), noise())
    before = mean_errors(done, LAYERS)
    found = corrected(done)
    assert list(found) == list(LAYERS.values())
    assert all(c.dtype == np.float32 and c.shape == (8,) for c in found.values())
    after, bound = mean_errors(done, LAYERS), half_steps(done.plan, LAYERS)
    for name in LAYERS:
        # float32 sums in both runs account for the rest.
        assert np.all(np.abs(after[name]) <= bound[name] + 2e-6), name
        assert np.abs(before[name]).max() > 20 * np.abs(after[name]).max()


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_nearest_rounding_is_corrected_alike(granularity):
    done = planned(convs(), noise(), granularity=granularity)
    corrected(done)
    after, bound = mean_errors(done, LAYERS), half_steps(done.plan, LAYERS)
    assert all(np.all(np.abs(after[n]) <= bound[n] + 2e-6) for n in LAYERS)


def test_a_layer_corrected_alone_leaves_what_its_prefix_does_to_it():
    done = badly_rounded(convs(), noise())
    names = {"c1": "n0_Conv", "c2": "n2_Conv", "c3": "n4_Conv", "c4": "n7_Conv"}
    alone: dict[str, np.ndarray] = {}
    for layer, node in names.items():
        others = {n: "left out" for n in names.values() if n != node}
        single = badly_rounded(convs(), noise(), float_nodes=others)
        alone |= {k: v for k, v in corrected(single).items() if k == LAYERS[layer]}
    done.plan.corrections = alone
    by_itself = mean_errors(done, LAYERS)
    corrected(done)
    in_order = mean_errors(done, LAYERS)
    # The first layer has no prefix but its quantized input: both ways agree.
    assert np.abs(by_itself["c1"] - in_order["c1"]).max() < 1e-4
    assert worst(by_itself, ["c2", "c3", "c4"]) > 20 * worst(in_order, ["c2", "c3", "c4"])


def test_the_outputs_come_closer():
    done = badly_rounded(convs(), noise())

    def error() -> float:
        a, b = EXECUTOR.load(done.model), EXECUTOR.load(done.qdq(), exact=True)
        pairs = [(a.run(f)[0], b.run(f)[0]) for f in pictures(1, 4, 10, 10, count=20)[6:]]
        return float(np.mean([np.square(x - y).mean() for x, y in pairs]))

    before = error()
    corrected(done)
    assert error() < before / 4  # more than 6 dB, on samples it has not seen


def sizes(count: int = 8) -> list[Feed]:
    """Pictures of four sizes."""
    rng = np.random.default_rng(3)
    found = []
    for index in range(count):
        h, w = [(10, 10), (7, 12), (12, 7), (16, 16)][index % 4]
        found.append({"x": (rng.standard_normal((1, 4, h, w)) + 0.5).astype(np.float32)})
    return found


def test_pictures_of_several_sizes():
    done = badly_rounded(convs("H", "W"), sizes())
    corrected(done)
    after, bound = mean_errors(done, LAYERS), half_steps(done.plan, LAYERS)
    assert all(np.all(np.abs(after[n]) <= bound[n] + 2e-6) for n in LAYERS)


def test_means_of_channels_are_wrong_at_borders_only(monkeypatch):
    """The form for tensors too large to hold: most of the error goes, all of it inside."""
    monkeypatch.setattr(input_means, "ELEMENTS", 0)
    for model, feeds in ((convs(), noise()), (convs("H", "W"), sizes())):
        done = badly_rounded(model, feeds)
        before = mean_errors(done, LAYERS)
        corrected(done)
        after = mean_errors(done, LAYERS)
        for name in LAYERS:
            assert np.abs(after[name]).max() < np.abs(before[name]).max() / 2, name
        # A 1x1 layer has no border.
        assert np.all(np.abs(after["c3"]) <= half_steps(done.plan, LAYERS)["c3"] + 2e-6)


@pytest.mark.parametrize(
    "text",
    [
        "p = MatMul (x, w) c = Add (p, b) y = Relu (c)",
        "c = Gemm (x, w, b) y = Relu (c)",
        "c = Gemm <transB = 1> (x, w, b) y = Relu (c)",
    ],
)
def test_matrices(text):
    weight = rand(16, 16) / 4
    model = parse(f"g (float[5, 16] x) => (float[] y) {{ {text} }}", {"w": weight, "b": rand(16)})
    done = badly_rounded(model, pictures(5, 16))
    assert corrected(done).keys() == {"b"}
    after, bound = mean_errors(done, {"c": "b"}, axis=-1), half_steps(done.plan, {"c": "b"})
    assert np.all(np.abs(after["c"]) <= bound["c"] + 2e-6)


def test_sequences_of_several_lengths():
    text = "g (float[1, S, 16] x) => (float[] y) { p = MatMul (x, w) c = Add (p, b) y = Relu (c) }"
    model = parse(text, {"w": rand(16, 16) / 4, "b": rand(16)})
    rng = np.random.default_rng(1)
    feeds = [{"x": rng.standard_normal((1, 3 + 4 * i, 16)).astype(np.float32)} for i in range(6)]
    done = badly_rounded(model, feeds)
    corrected(done)
    after, bound = mean_errors(done, {"c": "b"}, axis=-1), half_steps(done.plan, {"c": "b"})
    assert np.all(np.abs(after["c"]) <= bound["c"] + 2e-6)


READERS = {
    "kernels of two sizes": "c = Conv <pads = [1, 1, 1, 1]> (r, w3, b) "
    "d = Conv <pads = [2, 2, 2, 2]> (r, w5, b2)",
    "a kernel and a single position": "c = Conv (r, w1, b) d = Conv (r, w3, b2)",
    "a convolution and a product along another axis": "c = Conv (r, w1, b) m = MatMul (r, m9) "
    "d = Add (m, b9)",
    "strided single positions": "c = Conv <strides = [2, 2]> (r, w1, b) d = Conv (r, w1, b2)",
    "padded single positions": "c = Conv <pads = [1, 1, 1, 1]> (r, w1, b) d = Conv (r, w1, b2)",
    "dilated kernels": "c = Conv <dilations = [2, 2]> (r, w3, b) d = Conv (r, w3, b2)",
}


@pytest.mark.parametrize("elements", [input_means.ELEMENTS, 0])
@pytest.mark.parametrize("name", READERS)
def test_layers_that_read_one_value_in_different_ways(name, elements, monkeypatch):
    monkeypatch.setattr(input_means, "ELEMENTS", elements)
    body = READERS[name]
    constants = {
        "w1": rand(4, 4, 1, 1, seed=1),
        "w3": rand(4, 4, 3, 3, seed=2) / 3,
        "w5": rand(4, 4, 5, 5, seed=3) / 5,
        "m9": rand(9, 9, seed=4) / 3,
        "b": rand(4, seed=5),
        "b2": rand(4, seed=6),
        "b9": rand(9, seed=7),
    }
    ends = f"r = Relu (x) {body} y = Relu (c) z = Relu (d)"
    model = parse(f"g (float[1, 4, 9, 9] x) => (float[] y, float[] z) {{ {ends} }}", constants)
    done = badly_rounded(model, pictures(1, 4, 9, 9))
    second, axis = ("b9", -1) if "MatMul" in body else ("b2", 1)

    def errors() -> dict[str, np.ndarray]:
        return mean_errors(done, {"c": "b"}) | mean_errors(done, {"d": second}, axis)

    before = errors()
    assert corrected(done).keys() == {"b", second}
    after = errors()
    bound = half_steps(done.plan, {"c": "b", "d": second})
    for layer in ("c", "d"):
        if elements:
            assert np.all(np.abs(after[layer]) <= bound[layer] + 3e-6)
        else:
            assert np.abs(after[layer]).mean() < np.abs(before[layer]).mean() / 2


def test_a_gemm_that_transposes_its_input_is_left_as_it_is():
    text = "g (float[16, 5] x) => (float[] y) { c = Gemm <transA = 1> (x, w, b) y = Relu (c) }"
    done = badly_rounded(parse(text, {"w": rand(16, 16), "b": rand(16)}), pictures(16, 5))
    assert corrected(done) == {}


def test_behind_an_if():
    text = """g (float[1, 4, 8, 8] x, bool f) => (float[] y) {
        a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
        r = If (f) <then_branch = t () => (float[1, 8, 8, 8] t0) { t0 = Relu (a) },
                    else_branch = e () => (float[1, 8, 8, 8] e0) { e0 = Neg (a) }>
        c = Conv <pads = [1, 1, 1, 1]> (r, w4, b4)
        y = Relu (c)
    }"""
    feeds = [{**f, "f": np.asarray(i % 2 == 0)} for i, f in enumerate(pictures(1, 4, 8, 8))]
    done = badly_rounded(parse(text, CONSTANTS), feeds)
    assert corrected(done).keys() == {"b1", "b4"}
    after, bound = mean_errors(done, {"c": "b4"}), half_steps(done.plan, {"c": "b4"})
    assert np.all(np.abs(after["c"]) <= bound["c"] + 2e-6)


def test_equal_bytes_for_any_number_of_threads():
    found = []
    for threads in (1, 2, 3):
        done = badly_rounded(convs(), noise(9))
        found.append({k: v.tobytes() for k, v in corrected(done, threads).items()})
    assert found[0] == found[1] == found[2]


def test_the_float_graph_and_other_decisions_are_kept():
    done = planned(convs(), noise())
    before, text = fingerprint(done.model), to_json(done.plan)
    done.plan.corrections = {"b1": np.full(8, 1e6, np.float32)}  # of an earlier run
    first = dict(corrected(done))
    assert fingerprint(done.model) == before
    assert to_json(done.plan) == text
    again = corrected(done)
    assert all(np.array_equal(first[k], again[k]) for k in first)


def test_progress_is_told_of_every_piece():
    done = planned(convs(), noise())
    steps: list[int] = []
    correct_biases(
        done.model,
        done.plan,
        EXECUTOR,
        done.feeds,
        done.statistics,
        advance=lambda: steps.append(1),
    )
    assert len(steps) == 5  # four layers, and the addition between them


def test_nothing_to_correct():
    model = parse("g (float[1, 4] x) => (float[] y) { y = Tanh (x) }")
    assert correct_biases(model, QuantPlan("f", "t", "w8a8"), EXECUTOR, [], {}) == {}
