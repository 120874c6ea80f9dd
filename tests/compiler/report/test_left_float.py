"""Nodes that stayed float are told by op and reason, and many ops of one reason at once."""

from qcompile.compiler.report.left_float import MOST_OPS, left_float
from qcompile.compiler.report.model import FloatNode
from qcompile.compiler.report.stored import NO_WEIGHT


def node(name: str, op: str, reason: str, pattern: str = "") -> FloatNode:
    return FloatNode(name=name, op=op, reason=reason, sources=(name,), pattern=pattern)


def test_a_row_for_each_op_and_reason() -> None:
    nodes = [
        node("a", "Mul", "no kernel"),
        node("b", "Add", "asked"),
        node("c", "Mul", "no kernel"),
    ]
    (table,) = left_float(nodes)
    assert table.rows == (("Mul", "2", "no kernel", "a, c"), ("Add", "1", "asked", "b"))


def test_many_ops_of_one_reason_share_a_row() -> None:
    ops = [f"Op{i}" for i in range(MOST_OPS + 1)]
    nodes = [node(op.lower(), op, "does its work") for op in ops] + [node("m", "Mul", "no kernel")]
    (table,) = left_float(nodes)
    assert [row[1:3] for row in table.rows] == [
        (str(len(ops)), "does its work"),
        ("1", "no kernel"),
    ]
    assert table.rows[0][0] == "Op0, Op1, Op2 and 2 more"
    (few,) = left_float(nodes[:MOST_OPS])
    assert len(few.rows) == MOST_OPS


def test_the_pattern_is_named_unless_the_reason_begins_with_it() -> None:
    nodes = [node("a", "Mul", "asked", "tail"), node("b", "Mul", "tail: too few bits", "tail")]
    (table,) = left_float(nodes)
    assert [row[2] for row in table.rows] == ["asked; part of tail", "tail: too few bits"]


def test_what_reads_no_weight_is_one_row_at_the_end() -> None:
    nodes = [node("a", "Cos", NO_WEIGHT), node("b", "Mul", "asked"), node("c", "Sin", NO_WEIGHT)]
    (table,) = left_float(nodes)
    assert table.rows[-1] == ("others", "2", f"each {NO_WEIGHT}", "Cos, Sin")
    assert left_float([]) == []
