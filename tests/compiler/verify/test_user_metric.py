"""The user's own metric: what it is given, what it may return, and what is refused."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.data.dataset import Sample
from qcompile.compiler.report.accuracy import Accuracy
from qcompile.compiler.verify.accuracy import evaluate
from qcompile.compiler.verify.gates import Limits, judge
from qcompile.compiler.verify.user_metric import Outputs, UserMetric, load_metric
from qcompile.core.errors import Code, QCompileError
from tests.compiler.verify.fakes import FakeData, FakeSession

INPUTS = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
NAMES = ("doubled", "first")


def session(error: float = 0.0) -> FakeSession:
    return FakeSession(lambda x: [2 * x + np.float32(error), x[:, 0]], NAMES)


def run(function: Any, threads: int = 1, data: FakeData | None = None) -> Accuracy:
    data = data if data is not None else FakeData(INPUTS, list(range(30)))
    metric = UserMetric("mine:score", function)
    return evaluate(session(), session(0.5), data, data="", metric=metric, threads=threads)


def closeness(outputs: Iterable[Mapping[str, np.ndarray]], samples: Iterable[Sample]) -> float:
    pairs = zip(outputs, samples, strict=True)
    return -float(np.mean([np.abs(y["doubled"] - 2 * s.feeds["x"]).mean() for y, s in pairs]))


@pytest.mark.parametrize("threads", [1, 3])
def test_each_model_is_scored_on_its_own_outputs(threads: int) -> None:
    (figure,) = run(closeness, threads).own
    assert figure.metric == "score"
    assert figure.float_value == 0
    assert figure.artefact_value == pytest.approx(-0.5)
    assert figure.drop_points == pytest.approx(50)
    assert figure.drop_low is None


def test_scores_of_samples_have_a_spread_and_a_dict_has_names() -> None:
    def both(outputs: Outputs, samples: Any) -> dict[str, object]:
        assert len(outputs) == len(samples) == 30
        assert [s.label for s in samples[2:4]] == [2, 3]
        assert [s.label for s in samples] == list(range(30))
        assert outputs[-1].keys() == {*NAMES}
        assert outputs[3]["first"].shape == (1,)
        return {"each": [float(y["doubled"].max()) for y in outputs], "one": np.float32(0.25)}

    each, one = run(both).own
    assert (each.metric, one.metric) == ("each", "one")
    assert each.drop_low == pytest.approx(-50) == each.drop_high
    assert one.drop_points == 0


def test_the_float_outputs_are_given_to_who_asks_for_them() -> None:
    def gap(outputs: Outputs, samples: Any, reference: Outputs) -> float:
        assert len(samples) == 30
        pairs = zip(outputs, reference, strict=True)
        return -max(float(np.abs(y["doubled"] - r["doubled"]).max()) for y, r in pairs)

    (figure,) = run(gap).own
    assert (figure.float_value, figure.artefact_value) == (0, pytest.approx(-0.5))


def test_without_labels_and_with_odd_outputs() -> None:
    odd = FakeSession(
        lambda x: [np.array(["a"], object), np.zeros((0, 3)), x[0, 0]], ("t", "e", "s")
    )

    def look(outputs: Outputs, samples: Any) -> float:
        assert all(s.label is None for s in samples)
        assert outputs[0]["t"].tolist() == ["a"]
        assert outputs[0]["e"].shape == (0, 3)
        return float(outputs[4]["s"])

    metric = UserMetric("look", look)
    (figure,) = evaluate(odd, odd, FakeData(INPUTS), data="", metric=metric).own
    assert figure.float_value == INPUTS[4, 0]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "NoneType"),
        ("good", "str"),
        (float("nan"), "NaN"),
        ([1.0, 2.0], r"shape \(2,\) for score, with 30 samples"),
        ([[1.0], [1.0, 2.0]], "no array"),
        ({}, "empty dict"),
        ({"a": 1j}, "complex for a"),
    ],
)
def test_what_is_no_score(returned: object, said: str) -> None:
    with pytest.raises(QCompileError, match=said) as caught:
        run(lambda outputs, samples: returned)
    assert caught.value.code is Code.BAD_METRIC
    assert "mine:score" in caught.value.message


def test_a_function_that_raises_is_named_with_its_line() -> None:
    with pytest.raises(QCompileError, match=r"raised ZeroDivisionError.*test_user_metric.py") as e:
        run(lambda outputs, samples: 1 / 0)
    assert e.value.code is Code.BAD_METRIC
    with pytest.raises(QCompileError, match="raised TypeError"):
        run(lambda outputs: 1.0)


def test_names_must_be_the_same_for_both_models() -> None:
    names = iter("ab")
    with pytest.raises(QCompileError, match="named a for the float model and b for the artefact"):
        run(lambda outputs, samples: {next(names): 1.0})


def test_max_drop_holds_every_figure_and_leaves_top1_alone() -> None:
    figures = {"good": 1.0, "bad": 1.0}

    def score(outputs: Outputs, samples: Any, reference: Outputs) -> dict[str, float]:
        return figures if outputs is reference else {"good": 0.995, "bad": 0.97}

    good, bad = judge(Limits(max_drop=1.0), run(score), None)
    assert (good.passed, good.remark) == (True, "good")
    assert (bad.passed, bad.remark, bad.value) == (False, "bad", pytest.approx(3.0))


def test_loading(tmp_path: Path) -> None:
    (tmp_path / "metric_here.py").write_text("def score(outputs, samples):\n    return 1.0\n")
    found = load_metric("metric_here.py:score", tmp_path)
    assert found is not None
    assert found.name == "metric_here.py:score"
    assert load_metric(None, tmp_path) is None
    assert load_metric(closeness, tmp_path) == UserMetric("closeness", closeness)
    for wrong in ("metric_here.py:other", "nowhere.py:score", "nonsense"):
        with pytest.raises(QCompileError) as caught:
            load_metric(wrong, tmp_path)
        assert caught.value.code is Code.BAD_METRIC
