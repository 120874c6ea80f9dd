"""What a workshop gathers and when, and that nothing of a plan comes from the held-out samples."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.progress import Silent
from qcompile.compiler.search import workshop
from qcompile.compiler.search.recipe import Recipe
from qcompile.compiler.search.workshop import Job, Workshop
from qcompile.targets.catalog import load_target
from tests.passes.planning import EXECUTOR, Feed, pictures
from tests.passes.rounding.nets import convs

TARGET = load_target("ort-x86-vnni")
METHODS = ("minmax", "percentile", "mse")
TRANSFORMS = ("spread", "equalize")


def shop(
    feeds: Sequence[Feed],
    *,
    held_out: int = 5,
    transforms: Sequence[str] = TRANSFORMS,
    trusting: bool = False,
) -> Workshop:
    job = Job(convs(), TARGET, Scheme(threads=1), EXECUTOR, feeds, Silent())
    return Workshop(
        job,
        Recipe(),
        METHODS,
        held_out=held_out,
        scored=8,
        transforms=tuple(transforms),
        trusting=trusting,
    )


def samples() -> list[Feed]:
    return pictures(1, 4, 10, 10, count=20)


def louder(feed: Feed) -> Feed:
    return {name: 100 * x for name, x in feed.items()}


@pytest.mark.parametrize("recipe", [Recipe(), Recipe(ranges="mse", rounder="gptq")])
def test_a_plan_knows_nothing_of_the_held_out_samples(recipe):
    usual = samples()
    changed = [*usual[:15], *map(louder, usual[15:])]
    plans = [shop(feeds).make(recipe).plan for feeds in (usual, changed)]
    for name, entry in plans[0].values.items():
        other = plans[1].values[name]
        assert entry.params is not None and other.params is not None
        assert np.array_equal(entry.params.scale, other.params.scale)
    for name, array in plans[0].rounded.items():
        assert np.array_equal(array, plans[1].rounded[name])


def test_ranges_that_were_seen_cost_less_than_those_that_were_not():
    usual = samples()
    loud = [*usual[:15], *map(louder, usual[15:])]
    unseen, seen = shop(loud), shop(loud, held_out=0)
    seen.__dict__["scorer"] = unseen.scorer
    assert len(unseen.scorer.feeds) == 5
    assert unseen.make(Recipe()).score < seen.make(Recipe()).score - 10


def test_one_run_for_ranges_and_what_transforms_need(monkeypatch):
    runs: list[ir.Model] = []
    gather = workshop.gather

    def counted(executor, model, *rest, **options):
        runs.append(model)
        return gather(executor, model, *rest, **options)

    monkeypatch.setattr(workshop, "gather", counted)
    one = shop(samples())
    one.make(Recipe())
    made = one.make(replace(Recipe(), transforms=("equalize",)))
    assert made.plan.transforms
    assert len(runs) == 2  # of each graph once
    assert runs[0] is not runs[1]
    one.make(Recipe(ranges="mse"))
    assert len(runs) == 2


def test_a_correction_that_surely_pays_is_tried_alone_once(monkeypatch):
    monkeypatch.setattr(workshop, "SURE_GAIN", -1000.0)
    one = shop(samples())
    assert one.make(Recipe()).correction is not None
    assert one.make(Recipe(ranges="mse")).correction is None
    monkeypatch.setattr(workshop, "SURE_GAIN", 1000.0)
    one = shop(samples())
    assert one.make(Recipe()).correction is not None
    assert one.make(Recipe(ranges="mse")).correction is not None


def test_where_corrections_pay_that_of_the_outcome_is_tried(monkeypatch):
    monkeypatch.setattr(workshop, "SURE_GAIN", 1000.0)
    one = shop(samples(), trusting=True)
    assert one.make(Recipe()).correction is not None
    made = one.make(Recipe(ranges="mse"))
    assert made.correction is None
    assert one.settled(made).correction is not None
    harmed = replace(
        made.plan, corrections={name: a + 10 for name, a in made.plan.corrections.items()}
    )
    score = one.scorer.score(harmed, made.model)
    left_out = one.settled(replace(made, plan=harmed, score=score))
    assert left_out.plan.corrections == {}
    assert left_out.correction is not None and not left_out.correction.kept
    assert left_out.score == left_out.correction.before


def test_where_a_correction_changes_little_candidates_are_compared_without(monkeypatch):
    monkeypatch.setattr(workshop, "SMALL_GAIN", 100.0)
    found = shop(samples(), trusting=True)
    first = found.make(Recipe())
    assert found.compares_bare and first.correction is not None
    walks: list[str] = []
    walk = workshop.round_and_correct

    def counted(model, plan, *rest, **options):
        walks.append(plan.target)
        return walk(model, plan, *rest, **options)

    monkeypatch.setattr(workshop, "round_and_correct", counted)
    bare, trial = found.bare(first), found.make(Recipe(), trial=True)
    assert (bare.score, trial.score) == (first.correction.before,) * 2
    assert bare.is_bare and trial.is_bare and not walks
    outcome = found.settled(trial)
    assert not outcome.is_bare and outcome.correction is not None and len(walks) == 1
    assert outcome.score == max(outcome.correction.before, outcome.correction.after)


def test_a_correction_that_matters_is_made_for_trials_too(monkeypatch):
    monkeypatch.setattr(workshop, "SMALL_GAIN", 0.0)
    found = shop(samples(), trusting=True)
    first = found.make(Recipe())
    assert found.bare(first) is first
    assert not found.make(Recipe(), trial=True).is_borrowed


def test_in_the_end_ranges_may_come_from_all_samples():
    loud = [*samples()[:15], *map(louder, samples()[15:])]
    one = shop(loud)
    recipe = Recipe(transforms=("equalize",))
    before = one.make(recipe)
    one.see_all("minmax")
    after = one.make(recipe)
    assert [list(feed) for feed in one.scorer.feeds] == [list(feed) for feed in loud[15:]]
    assert after.score > before.score + 10
    first, second = (c.plan.transforms["equalize"] for c in (before, after))
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_looking_at_other_ranges_leaves_the_plan_as_it_is(monkeypatch):
    """Where scales must grow for a bias, the rounded integers of a weight go."""
    usual = shop(samples())
    made = usual.make(Recipe(rounder="gptq"))
    before = dict(made.plan.rounded)
    assert before
    monkeypatch.setattr(workshop, "prove_safe", lambda model, plan, *_: plan.rounded.clear())
    usual.score_on_first(made, dict.fromkeys(made.plan.values, 0.5))
    assert made.plan.rounded == before
