"""Levels in a plan's file: what is written is read back, what cannot be is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.plan_file import load_plan, to_arrays, to_json
from qcompile.core.plan_levels import read_levels


@given(st.integers(0, 2**32 - 1), st.none() | st.integers(1, 4), st.booleans(), st.booleans())
def test_round_trip(seed: int, channels: int | None, rows: bool, scaled: bool) -> None:
    rng = np.random.default_rng(seed)
    shape = () if channels is None else (channels,)
    scale = np.ones(shape, np.float32)
    if scaled:
        scale = rng.uniform(0.1, 2, shape).astype(np.float32)
    table = (*shape, 16) if rows else (16,)
    levels = np.sort(rng.normal(size=table).astype(np.float32), axis=-1)
    if not rows and not scaled and channels:
        scale = np.full(shape, 0.5, np.float32)  # what says how many channels there are
    params = QuantParams(scale, np.zeros(shape, np.int64), levels)
    kind = "tensor" if channels is None else "channel"
    axis = None if channels is None else 1
    entry = ValuePlan("w", "weight", "uint4", kind, axis, params=params, rule="codebook")
    plan = QuantPlan("f", "t", "w4", weights="codebook", values={"w": entry})
    back, dropped = load_plan(to_json(plan), to_arrays(plan), "x")
    assert dropped == []
    assert back.weights == "codebook"
    assert back.values["w"].params.same_as(params)
    assert to_json(back) == to_json(plan)


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ({"levels": 1.0}, "a list of numbers"),
        ({"levels": [2.0, 1.0]}, "ascend"),
        ({"levels": [0.0, float("inf")]}, "finite"),
        ({"levels": [0.0] * 17}, "16 levels, not 17"),
        ({"levels": [[0.0, 1.0]]}, "a list of numbers"),
        ({"levels": [0.0, 1.0], "scale": -1.0}, "at least"),
        ({"levels": [0.0, 1.0], "scale": [1.0, 2.0]}, "a scale is a number"),
    ],
)
def test_what_cannot_be(record: dict, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read_levels(ValuePlan("w", "weight", "uint4"), record)


def test_text_is_no_number() -> None:
    with pytest.raises(TypeError, match="no list"):
        read_levels(ValuePlan("w", "weight", "uint4"), {"levels": "1 2"})


def test_forms_are_known() -> None:
    text = to_json(QuantPlan("f", "t", "w4", weights="codebook")).replace(b"codebook", b"cookbook")
    with pytest.raises(QCompileError, match="cookbook") as caught:
        load_plan(text, None, "x")
    assert caught.value.code is Code.BAD_PLAN
