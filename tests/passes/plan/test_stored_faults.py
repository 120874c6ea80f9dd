"""Entries of stored weights: what was planned has no fault, edits that cannot be have one."""

from dataclasses import replace

import pytest

from qcompile.core.plan import QuantParams, ValuePlan
from qcompile.core.stored import stored_weights
from qcompile.passes.plan.stored_faults import stored_faults
from tests.passes.stored import TARGET, decoder, planned


def faults(edit) -> list[str]:
    model = decoder()
    plan = planned(model)
    stored = next(s for s in stored_weights(model.graph, plan) if s.name == "v")
    return list(stored_faults(edit(plan.values["v"]), stored, TARGET.under("w4")))


def halved(entry: ValuePlan) -> ValuePlan:
    assert entry.params is not None
    params = QuantParams(entry.params.scale[:1], entry.params.zero_point[:1])
    return replace(entry, params=params)


def test_what_was_planned_has_none():
    assert faults(lambda entry: entry) == []


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda e: replace(e, axis=0), "groups along axis 1"),
        (lambda e: replace(e, granularity="channel"), "groups along axis 1"),
        (lambda e: replace(e, dtype="int8"), "is none of uint8, uint4"),
        (lambda e: replace(e, group=20), "made of 16 or 32"),
        (lambda e: replace(e, params=None), "no scales"),
        (lambda e: replace(e, symmetric=True), "they are not"),
        (halved, "not (3, 80)"),
    ],
)
def test_edits_that_cannot_be(edit, fault):
    assert fault in faults(edit)[0]
