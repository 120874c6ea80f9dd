"""What each effort keeps is better on held-out samples; its plan says all that is built."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import compile_graph, replay
from qcompile.compiler.progress import Silent
from qcompile.compiler.search.efforts import SEARCHES, held_out
from qcompile.compiler.search.range_search import search_ranges
from qcompile.compiler.search.recipe import Recipe
from qcompile.compiler.search.workshop import Job, Workshop
from qcompile.core.budget import Budget
from qcompile.core.plan import QuantPlan
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from qcompile.targets.catalog import load_target
from tests.passes.planning import EXECUTOR, Feed, pictures
from tests.passes.prepare.checking import parse, rand
from tests.passes.rounding.nets import convs

TARGET = load_target("ort-x86-vnni")
EFFORTS = ("fast", "balanced", "max")


def job(model: ir.Model, feeds: list[Feed], **options: object) -> Job:
    scheme = Scheme(**{"threads": 1, **options})
    return Job(model, TARGET, scheme, EXECUTOR, feeds, Silent())


def samples(count: int = 40, shape: tuple[int, ...] = (1, 4, 10, 10)) -> list[Feed]:
    return pictures(*shape, count=count)


@pytest.mark.parametrize(("count", "held"), [(2, 0), (7, 0), (8, 4), (40, 10), (1000, 64)])
def test_how_many_samples_are_held_out(count, held):
    assert held_out(count) == held


@pytest.mark.parametrize("effort", EFFORTS)
def test_the_best_score_never_falls_and_every_trial_is_told(effort):
    found = SEARCHES[effort](job(convs(), samples(), effort=effort))
    kept = [trial for trial in found.trials if trial.kept]
    assert all(trial.after > trial.before for trial in kept)
    assert found.best.score == pytest.approx(max(t.after for t in kept), abs=1e-9)
    steps = [trial.step for trial in found.trials]
    assert len(steps) == len(set(steps))
    if effort != "fast":
        assert {"ranges by percentile", "ranges by mse", "weights rounded by GPTQ"} <= set(steps)
    assert ("layers reconstructed" in steps) == (effort == "max")


def test_a_transform_that_finds_nothing_makes_no_plan(monkeypatch):
    made: list[Recipe] = []
    make = Workshop.make

    def counted(shop, recipe, *rest, **options):
        made.append(recipe)
        return make(shop, recipe, *rest, **options)

    monkeypatch.setattr(Workshop, "make", counted)
    found = SEARCHES["balanced"](job(convs(), samples(), effort="balanced"))
    tried = {name for recipe in made for name in recipe.transforms}
    assert "equalize" in tried
    assert "smooth" not in tried, "there is no MatMul"
    assert any(trial.step == "layers equalized" for trial in found.trials)


@pytest.mark.parametrize("effort", EFFORTS)
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_plan_for_any_number_of_threads_and_when_replayed(effort, threads):
    model, scheme = convs(), Scheme(effort=effort, threads=threads)
    done = compile_graph(model, TARGET, scheme, EXECUTOR, samples(), Silent(), {})
    again, dropped = load_plan(to_json(done.plan), to_arrays(done.plan), "plan")
    assert dropped == []
    replayed = replay(convs(), again, TARGET, scheme, {})
    assert _bytes(replayed.qdq) == _bytes(done.qdq)
    once = compile_graph(
        convs(), TARGET, replace(scheme, threads=1), EXECUTOR, samples(), Silent(), {}
    )
    assert _bytes(once.qdq) == _bytes(done.qdq)


def test_ranges_that_were_asked_for_are_not_changed():
    found = SEARCHES["max"](job(convs(), samples(), effort="max", ranges="percentile"))
    assert found.best.recipe.ranges == "percentile"
    assert not [t for t in found.trials if t.step.startswith("ranges by")]


def test_a_spent_budget_leaves_the_first_plan():
    spent = replace(job(convs(), samples(), effort="max"), budget=Budget(0.0))
    found = SEARCHES["max"](spent)
    assert found.best.recipe == Recipe("minmax")
    assert [t.step for t in found.trials] in ([], ["bias correction"])


def dynamic_net() -> tuple[ir.Model, list[Feed]]:
    """Two MatMuls whose input is a thousand times as large in some samples as in others."""
    model = parse(
        """g (float[N, 16] x) => (float[N, 8] y) {
            a = MatMul (x, w1) b = Relu (a) y = MatMul (b, w2)
        }""",
        {"w1": rand(16, 32, seed=1), "w2": rand(32, 8, seed=2)},
    )
    rng = np.random.default_rng(0)
    sizes = np.where(np.arange(40) % 2, 1000.0, 1.0)
    feeds = [{"x": (rng.normal(size=(1, 16)) * size).astype(np.float32)} for size in sizes]
    return model, feeds


@pytest.mark.parametrize("auto", [False, True])
def test_auto_lets_layers_find_their_scales_where_that_keeps_more(auto):
    model, feeds = dynamic_net()
    scheme = Scheme(effort="balanced", auto=auto, threads=1)
    done = compile_graph(model, TARGET, scheme, EXECUTOR, feeds, Silent(), {})
    modes = {node.mode for node in done.plan.nodes.values() if node.op == "MatMul"}
    assert modes == ({"dynamic"} if auto else {"integer"})
    again, _ = load_plan(to_json(done.plan), to_arrays(done.plan), "plan")
    assert _bytes(replay(dynamic_net()[0], again, TARGET, scheme, {}).qdq) == _bytes(done.qdq)


def test_a_range_that_is_too_wide_is_found():
    model, feeds = convs(), samples()
    recipe = Recipe("minmax", factors={"r1": 12.0})
    shop = Workshop(job(model, feeds), recipe, ["minmax"], held_out=8, scored=16)
    start = shop.make(recipe)
    factors = search_ranges(shop, start, Budget())
    assert factors["r1"] < 12.0
    after = shop.make(replace(recipe, factors=factors))
    assert after.score > start.score + 1
    assert search_ranges(shop, start, Budget(0.0)) == {"r1": 12.0}


def _bytes(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def test_the_plan_of_a_candidate_is_complete():
    found = SEARCHES["balanced"](job(convs(), samples(), effort="balanced"))
    plan: QuantPlan = found.best.plan
    assert all(value.params is not None for value in plan.values.values())
