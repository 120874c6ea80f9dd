"""The search of weight-only schemes: what pays is kept, and an interrupted one goes on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.options import Scheme
from qcompile.compiler.progress import Silent
from qcompile.compiler.search import portion_walk
from qcompile.compiler.search.weights_only import search_stored
from qcompile.compiler.search.workshop import Job
from qcompile.core.errors import QCompileError
from qcompile.core.plan import QuantPlan
from qcompile.passes.transform.table import transformed
from tests.passes.planning import EXECUTOR
from tests.passes.stored import TARGET, decoder

SCHEME = Scheme(scheme="w3", granularity="group:32", effort="balanced", threads=1)


def _job(count: int = 40, length: int = 40, **options: object) -> Job:
    random = np.random.default_rng(2)
    feeds = [{"i": random.integers(0, 60, length)} for _ in range(count)]
    scheme = replace(SCHEME, **options)  # type: ignore[arg-type]
    return Job(decoder(), TARGET.under(scheme.scheme), scheme, EXECUTOR, feeds, Silent())


def _same(a: QuantPlan, b: QuantPlan) -> bool:
    return a.rounded.keys() == b.rounded.keys() and all(
        np.array_equal(a.rounded[name], b.rounded[name]) for name in a.rounded
    )


def test_gptq_pays() -> None:
    found = search_stored(_job())
    (trial,) = found.trials
    assert trial.kept
    assert trial.after > trial.before + 1
    assert {"w", "v", "head", "tied"} <= set(found.plan.rounded)
    assert "gptq" in found.plan.values["w"].rule
    for name, codes in found.plan.rounded.items():
        assert codes.max() < 2 ** int(found.plan.values[name].dtype.removeprefix("uint"))


def test_tables_have_four_bits_and_their_heads_with_them() -> None:
    found = search_stored(_job())
    assert {found.plan.values[name].dtype for name in ("table", "tied")} == {"uint4"}
    assert {found.plan.values[name].dtype for name in ("w", "v", "head")} == {"uint3"}
    assert np.array_equal(found.plan.rounded["tied"], found.plan.rounded["table"].T)
    assert any("4 bits" in str(note) for note in found.notes)


def test_the_plan_is_of_the_canonical_graph() -> None:
    job = _job()
    found = search_stored(job)
    again = transformed(job.model, found.plan.transforms)
    for name, value in found.model.graph.initializers.items():
        other = again.graph.initializers[name]
        assert value.const_value is not None and other.const_value is not None
        assert np.array_equal(value.const_value.numpy(), other.const_value.numpy())


@pytest.mark.parametrize("options", [{"effort": "fast"}, {"count": 0}])
def test_without_effort_or_samples_codes_are_the_nearest(options: dict[str, object]) -> None:
    found = search_stored(_job(**options))  # type: ignore[arg-type]
    assert not found.trials
    assert not found.plan.rounded
    assert found.plan.quantized("w") is not None


def test_too_few_tokens_are_said() -> None:
    """Nine samples of 5 tokens are not ten for each of 80 inputs."""
    found = search_stored(_job(count=9, length=5))
    assert any("10 tokens for each of up to 80 inputs" in str(note) for note in found.notes)
    assert not any("gptq" in entry.rule for entry in found.plan.values.values())


def test_an_interrupted_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = search_stored(_job())
    folder = tmp_path / "m.onnx.partial"
    choose, calls = portion_walk.choose_portion, []

    def interrupted(*args: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return choose(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(portion_walk, "choose_portion", interrupted)
    with pytest.raises(KeyboardInterrupt):
        search_stored(_job(partial=folder))
    assert folder.is_dir()
    found = search_stored(_job(partial=folder))
    assert len(calls) == 3 + 2  # two of four were there
    assert any("after 2 of 4" in str(note) for note in found.notes)
    assert _same(found.plan, whole.plan)
    assert not folder.exists()


def test_bits_are_mixed_within_a_budget() -> None:
    """Of weights that matter alike; the average is kept, with scales and zero points."""
    found = search_stored(_job(scheme="w4", bits_per_weight=4.5))
    widths = {entry.dtype for entry in found.plan.values.values() if entry.role == "weight"}
    assert len(widths) > 1
    assert any("widths by sensitivity" in str(note) for note in found.notes)
    with pytest.raises(QCompileError, match="the fewest are 3"):
        search_stored(_job(scheme="w4", bits_per_weight=2.0))
    with pytest.raises(QCompileError, match="no samples"):
        search_stored(_job(count=0, scheme="w4", bits_per_weight=4.5))
