"""What layers take, in words: equal ones as a row, in a unit that shows digits, with the reason."""

from dataclasses import replace

import pytest

from qcompile.compiler.report.never_slower import (
    RegionCost,
    choice_of,
    never_slower_tables,
    region_costs,
)
from qcompile.core.plan import NodeCost, NodePlan, QuantPlan


@pytest.mark.parametrize(
    ("floats", "integers", "is_float", "said"),
    [
        (1.0, 2.0, True, "float: faster"),
        (2.0, 1.0, True, "float: quantizers cost more than integers save"),
        (1.0, 1.05, True, "float: no difference, and no quantizers"),
        (2.0, 1.0, False, "integer: faster"),
        (1.0, 2.0, False, "integer: quantizers cost more than floats would save"),
        (1.05, 1.0, False, "integer: no difference"),
    ],
)
def test_reasons(floats: float, integers: float, is_float: bool, said: str) -> None:
    assert choice_of(NodeCost(floats, integers, 0.1, True), is_float=is_float) == said


def test_a_table_is_taken_at_its_word() -> None:
    cost = NodeCost(1.0, 1.05, 0.6, measured=False, unit="instructions")
    assert choice_of(cost, is_float=True) == "float: fewer instructions"
    assert choice_of(replace(cost, unit="ms"), is_float=True) == "float: faster"
    assert "quantizers cost more" in choice_of(cost, is_float=False)


def test_instructions_are_shown_as_such() -> None:
    cost = NodeCost(4.2e6, 1.5e6, 2e6, measured=False, unit="instructions")
    plan = QuantPlan("f", "t", "w8a8", nodes={"a": NodePlan("a", "Conv", "integer", cost=cost)})
    (table,) = never_slower_tables(region_costs(plan))
    assert (
        table.title == "Layers by what a table says they take, in million instructions (emulated)"
    )
    assert table.rows == (("a", "Conv", "1", "4.2", "1.5", "2", "integer", "fewer"),)


def rows() -> tuple[RegionCost, ...]:
    plan = QuantPlan("f", "t", "w8a8")
    cost = NodeCost(0.004, 0.002, 0.0001, True)
    plan.nodes = {
        "a": NodePlan("a", "Conv", "integer", cost=cost),
        "b": NodePlan("b", "Conv", "integer", cost=NodeCost(0.004, 0.002, 0.0001, True, "a")),
        "r": NodePlan("r", "Relu", "absorbed", into="b"),
        "c": NodePlan("c", "Gemm", "float", cost=NodeCost(0.001, 0.003, 0.0001, True)),
        "d": NodePlan("d", "MatMul", "dynamic", cost=NodeCost(0.001, 0.003, 0.0001, True)),
    }
    return region_costs(plan)


def test_the_table() -> None:
    assert [row.node for row in rows()] == ["a", "b", "c", "d"]
    (table,) = never_slower_tables(rows())
    assert table.title == "Layers by what they take, in us"
    assert table.rows == (
        ("a", "Conv", "2", "4", "2", "0.1", "integer", "faster"),
        ("c", "Gemm", "1", "1", "3", "0.1", "float", "faster"),
        ("d", "MatMul", "1", "1", "3", "0.1", "dynamic", "borders"),
    )
    assert never_slower_tables(()) == []
