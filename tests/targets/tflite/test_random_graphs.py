"""Random small graphs over the op table: written, verified, and equal to the numpy reference.

200 graphs by default; ``QCOMPILE_RANDOM_GRAPHS=2000`` (a minute) draws each op 50 times and more,
and other graphs each time. Under the reference kernels and under XNNPACK every integer operator is
bit for bit what the reference says, but for TRANSPOSE_CONV where XNNPACK declines it (one step) and
SUM, which the reference kernels get wrong; graphs without floats are equal from end to end.
"""

import os
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qcompile.targets.tflite.operator_table import operator_table
from qcompile.targets.tflite.reference import table
from qcompile.targets.tflite.reference.call import Call, Kernel
from qcompile.targets.tflite.table import LOWERINGS
from tests.targets.tflite.random_graphs.check import FORMS, Tally, check
from tests.targets.tflite.random_graphs.nodes import NODES
from tests.targets.tflite.reference.operators import EXACT_UNDER_XNNPACK

EXAMPLES = int(os.environ.get("QCOMPILE_RANDOM_GRAPHS", "200"))
OFTEN = 50
"""How often every op is to occur in 2,000 graphs."""
TALLY = Tally()
LATER_OPSETS = {"RMSNormalization", "SimplifiedLayerNormalization"}


def test_every_op_of_the_table_is_drawn() -> None:
    assert set(NODES) == set(LOWERINGS) - LATER_OPSETS


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="QCOMPILE_RANDOM_GRAPHS" not in os.environ,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    st.sampled_from(list(NODES)),
    st.integers(0, 8),
    st.integers(0, 2**32 - 1),
    st.sampled_from(FORMS),
)
def test_random_graphs(op: str, size: int, seed: int, form: str) -> None:
    outcome = check(op, size, seed, form, TALLY)
    assert outcome.is_right, outcome


def test_every_op_occurs_often(capsys: pytest.CaptureFixture[str]) -> None:
    # Of the graphs above; alone it has nothing to count.
    least = OFTEN if TALLY.graphs >= 2000 else int(TALLY.graphs >= 200)
    with capsys.disabled():
        print(f" {TALLY.graphs} graphs, {sum(TALLY.nodes.values())} nodes,", end=" ")
        print(f"equal from end to end: {dict(TALLY.whole)}", end=" ")
    assert {op: TALLY.nodes[op] for op in NODES if TALLY.nodes[op] < least} == {}


def test_what_the_table_calls_exact_is_compared() -> None:
    compared = {name.split(",")[0] for name in EXACT_UNDER_XNNPACK}
    assert {row.name for row in operator_table().values() if row.exact} - compared == set()


def test_a_single_step_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = table.KERNELS["MUL"]

    def wrong(call: Call) -> Kernel:
        result = right(call)[0].copy()
        result.reshape(-1)[0] ^= 1
        return [result]

    monkeypatch.setitem(cast("dict[str, object]", table.KERNELS), "MUL", wrong)
    outcome = check("Mul", 0, 5, "planned", Tally())
    assert {(d.kernels, d.operator, d.largest, d.count) for d in outcome.deviations} == {
        ("reference", "MUL", 1.0, 1),
        ("xnnpack", "MUL", 1.0, 1),
    }
    assert outcome.whole == {"reference": 1, "xnnpack": 1}
    assert not outcome.is_right
