"""A bias correction is kept where outputs come closer to float, and dropped where they do not."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import Compiled, compile_graph
from qcompile.compiler.progress import Silent
from qcompile.compiler.quantizing import quantize
from qcompile.compiler.scoring import Scorer
from qcompile.compiler.search import workshop
from qcompile.compiler.search.recipe import Trial
from qcompile.core.plan import QuantPlan
from qcompile.targets.catalog import load_target
from tests.passes.planning import EXECUTOR, Feed, pictures
from tests.passes.rounding.nets import LAYERS, convs

TARGET = load_target("ort-x86-avx2")


def compiled(model: ir.Model, feeds: list[Feed], threads: int = 1) -> Compiled:
    scheme = Scheme(threads=threads)
    return compile_graph(model, TARGET, scheme, EXECUTOR, feeds, Silent(), {})


def correction(done: Compiled) -> Trial:
    (trial,) = (t for t in done.tried if t.step == "bias correction")
    return trial


@pytest.mark.parametrize("count", [6, 80])  # with and without samples of its own for the trial
def test_a_correction_that_pays_is_kept(count):
    model, feeds = convs(), pictures(1, 4, 10, 10, count=count)
    done = compiled(model, feeds)
    assert done.plan.corrections.keys() == set(LAYERS.values())
    trial = correction(done)
    assert trial.kept and trial.after > trial.before
    without = QuantPlan(**{**vars(done.plan), "corrections": {}})
    scorer = Scorer(model, EXECUTOR, feeds, 1)
    assert scorer.score(done.plan) > scorer.score(without)


def test_a_correction_that_does_not_pay_is_dropped(monkeypatch):
    def harmful(model: ir.Model, plan: QuantPlan, *_: object, **__: object) -> None:
        plan.corrections = {name: np.full(8, 3, np.float32) for name in LAYERS.values()}

    model, feeds = convs(), pictures(1, 4, 10, 10, count=6)
    plain = compiled(model, feeds)
    monkeypatch.setattr(workshop, "round_and_correct", harmful)
    done = compiled(model, feeds)
    assert done.plan.corrections == {}
    trial = correction(done)
    assert not trial.kept and trial.after < trial.before
    # What is left is the plan as it was before.
    plain.plan.corrections = {}
    a, b = quantize(model, plain.plan), quantize(model, done.plan)
    assert ir.to_proto(a).SerializeToString() == ir.to_proto(b).SerializeToString()


def test_equal_plans_for_any_number_of_threads():
    model, feeds = convs(), pictures(1, 4, 10, 10, count=9)
    one, two = compiled(model, feeds), compiled(model, feeds, threads=2)
    assert one.notes == two.notes
    assert [replace(t, seconds=0.0) for t in one.tried] == [
        replace(t, seconds=0.0) for t in two.tried
    ]
    for name, correction in one.plan.corrections.items():
        assert two.plan.corrections[name].tobytes() == correction.tobytes()
