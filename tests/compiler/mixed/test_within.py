"""Samples are divided so that what judges took no part, as far as there are enough."""

import onnx_ir as ir
import pytest

from qcompile.compiler.mixed.within import divide
from qcompile.core.plan import QuantPlan
from tests.compiler import small


@pytest.mark.parametrize(
    ("count", "corrected", "held"),
    [(1, 1, 1), (7, 7, 7), (8, 4, 4), (64, 48, 16), (200, 128, 72), (1000, 128, 872)],
)
def test_division(count: int, corrected: int, held: int) -> None:
    model = ir.from_proto(small.cnn())
    division = divide(model, QuantPlan("f", "t", "w8a8"), count)
    assert (len(division.corrected), len(division.held)) == (corrected, held)
    if count >= 8:
        assert not set(division.corrected) & set(division.held)
