"""Choosers of stored weights: nearest by default, one a weight where given, tied ones follow."""

from dataclasses import replace

import numpy as np
import pytest

from qcompile.core.numerics.affine import bit_width
from qcompile.core.numerics.grouped import from_codes
from qcompile.core.plan import Shared, ValuePlan
from qcompile.core.stored import Stored, as_columns
from qcompile.passes.rounding.stored_choice import (
    StoredChoice,
    choose_stored,
    nearest,
    resolve_tied,
    stored_codes,
)
from tests.passes.stored import decoder, moved, planned


def ones(stored: Stored, entry: ValuePlan) -> StoredChoice:
    """Nearest scales, and every code 1."""
    found = nearest(symmetric=True)(stored, replace(entry, dtype="uint2", group=64))
    return StoredChoice(
        replace(found.entry, rule="ones"), np.ones((stored.rows, stored.columns), np.uint8)
    )


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("symmetric", [True, False, None])
def test_nearest_is_near(bits, symmetric):
    model = decoder()
    plan = planned(model, bits, symmetric=symmetric)
    for name, entry in plan.values.items():
        array = model.graph.initializers[name].const_value.numpy()
        assert bit_width(entry.dtype) == bits
        codes = stored_codes(array, entry, None)
        assert codes.max() < 2**bits
        wrong = from_codes(codes, entry.params, entry.group) - as_columns(array, entry.axis)
        most = {2: 0.35, 3: 0.12, 4: 0.03, 8: 2e-4}[bits]
        assert (wrong**2).mean() < most * (array**2).mean()


def test_free_zero_points_where_they_pay():
    model = decoder()
    moved(model, "v", 3.0)
    moved(model, "w", -model.graph.initializers["w"].const_value.numpy() + 0.5)
    plan = planned(model, 4, 64, symmetric=None)
    assert not plan.values["v"].symmetric
    assert plan.values["w"].symmetric


def test_a_chooser_a_weight_and_what_is_tied_follows():
    model = decoder()
    plan = planned(model, complete=False)
    choose_stored(model.graph, plan, {"tied": ones, "v": ones}, nearest(symmetric=None))
    assert plan.rounded.keys() == {"tied", "v", "table"}
    assert plan.rounded["v"].shape == (80, 72)
    assert plan.rounded["table"].shape == (60, 64)
    table, tied = plan.values["table"], plan.values["tied"]
    assert (table.dtype, table.group, table.axis) == ("uint2", 64, 1)
    assert table.params is tied.params
    assert plan.values["w"].rule == "nearest"
    assert stored_codes(np.zeros((60, 64)), table, plan.rounded["table"]).shape == (64, 60)


def test_a_second_choice_changes_nothing():
    model = decoder()
    plan = planned(model)
    before = dict(plan.values)
    choose_stored(model.graph, plan, {"w": ones}, ones)
    resolve_tied(plan)
    same = {n: v.params is before[n].params for n, v in plan.values.items()}
    assert all(same.values())
    assert isinstance(plan.values["table"].relation, Shared)
