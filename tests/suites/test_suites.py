"""ONNX's public suites, built for both runtimes: right, or refused by the name of a node.

Single nodes are built as they are, and with all but their first float input constant, as models
have them. Every case is also inspected.
"""

from collections.abc import Sequence
from pathlib import Path

import pytest

from qcompile.targets.catalog import load_target
from qcompile.targets.host import host_target
from tests.suites import cases
from tests.suites.cases import Case
from tests.suites.judge import Outcome, examine, judge
from tests.suites.known import KNOWN
from tests.suites.tally import Tally

OPS = sorted(
    {
        op
        for target in map(load_target, ("ort-x86-vnni", "tflite-x86"))
        for op in (*target.ops, *target.float_ops)
    }
)
"""Every op of the operator tables."""
TARGETS = [
    pytest.param(host_target(), id="onnxruntime"),
    pytest.param("tflite-x86", id="tflite", marks=pytest.mark.litert),
]
SCHEMES = ("w8a8", "float")
LIGHT_SAMPLES = 2


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("op", OPS)
def test_nodes(op: str, target: str, scheme: str, tally: Tally, tmp_path: Path) -> None:
    told = cases.node_cases().get(op, ())
    fixed = [c for case in told if (c := cases.with_constants(case)) is not None]
    hold("nodes", told, target, scheme, tally, tmp_path)
    hold("nodes, constants", fixed, target, scheme, tally, tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["pytorch-converted", "pytorch-operator", "simple"])
def test_models(kind: str, target: str, scheme: str, tally: Tally, tmp_path: Path) -> None:
    hold(kind, cases.stored_cases(kind), target, scheme, tally, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", cases.light_names())
def test_architectures(name: str, target: str, tally: Tally, tmp_path: Path) -> None:
    hold("light", [cases.light_case(name)], target, "w8a8", tally, tmp_path, LIGHT_SAMPLES)


def test_what_is_known_is_a_case() -> None:
    stored = [
        c
        for k in ("pytorch-converted", "pytorch-operator", "simple")
        for c in cases.stored_cases(k)
    ]
    nodes = [case for op in OPS for case in cases.node_cases().get(op, ())]
    fixed = [c for case in nodes if (c := cases.with_constants(case)) is not None]
    names = {case.name for case in (*stored, *nodes, *fixed)}
    assert {name for _, _, name in KNOWN} <= names
    assert len(nodes) > 400


def hold(
    suite: str,
    given: Sequence[Case],
    target: str,
    scheme: str,
    tally: Tally,
    folder: Path,
    count: int = cases.SAMPLES,
) -> None:
    """Judge cases, count what became of them, and fail unless what fails is what is known to."""
    runtime = load_target(target).runtime
    outcomes: list[Outcome] = []
    for case in given:
        outcome = judge(case, target, scheme, folder, count)
        outcomes.append(outcome)
        if scheme == "w8a8" and (fault := examine(folder, target)):
            outcomes.append(Outcome(case.name, "wrong", fault))
    names = {case.name for case in given}
    known = {case for r, s, case in KNOWN if (r, s) == (runtime, scheme)} & names
    tally.add(suite, runtime, scheme, ["known" if o.case in known else o.kind for o in outcomes])
    failed = {o.case: o.text for o in outcomes if o.failed}
    assert {name: text for name, text in failed.items() if name not in known} == {}
    assert known <= set(failed), "works now: take it out of known.py"
