"""Sums become Adds, bit for bit."""

import pytest

from qcompile.passes.prepare.sum_to_add import SumToAdd
from tests.passes.prepare.checking import changed, ops, parse, unchanged

PASS = SumToAdd()


def model(text: str, *shapes: str, constants=None):
    inputs = ", ".join(f"float[{shape}] x{i}" for i, shape in enumerate(shapes))
    return parse(f"g ({inputs}) => (float[2, 3] y) {{ {text} }}", constants or {})


@pytest.mark.parametrize(
    ("text", "shapes", "expected"),
    [
        ("y = Sum(x0)", ["2, 3"], ["Identity"]),
        ("y = Sum(x0, x1)", ["2, 3", "2, 3"], ["Add"]),
        ("y = Sum(x0, x1)", ["2, 3", "3"], ["Add"]),
        ("y = Sum(x0, x1, x2)", ["2, 3"] * 3, ["Add", "Add"]),
        ("y = Sum(x0, x1, x0, x1)", ["2, 3"] * 2, ["Add", "Add", "Add"]),
    ],
)
def test_rules(text, shapes, expected):
    assert ops(changed(PASS, model(text, *shapes), tolerance=0)) == expected


def test_a_broadcast_of_three_is_left():
    unchanged(PASS, model("y = Sum(x0, x1, x2)", "2, 3", "3", "2, 3"))
