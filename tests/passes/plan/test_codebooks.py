"""Which weights become codes, and what samples, granularity and ties do to their levels."""

import numpy as np
import pytest

from qcompile.core.plan import QuantParams, QuantPlan, ValuePlan
from qcompile.core.statistics.channel_square import ChannelSquare
from qcompile.passes.plan.codebooks import (
    choose_levels,
    code_faults,
    plan_codes,
    squares_request,
    stored_bytes,
)
from tests.passes.prepare.checking import parse, rand

NET = """g (float[1, 16, 8, 8] x) => (float[] y) {
    c = Conv <group = 2> (x, w)
    d = Conv <group = 32> (c, depthwise)
    f = Flatten (d)
    y = Gemm <transB = 1> (f, head)
}"""
CONSTANTS = {
    "w": rand(32, 8, 3, 3),
    "depthwise": rand(32, 1, 3, 3),
    "head": rand(10, 32 * 16, seed=2),
}


def planned(bits: int = 4) -> tuple[object, QuantPlan]:
    model = parse(NET, CONSTANTS)
    plan = QuantPlan("", "", "w4", weights="codebook")
    plan_codes(model.graph, plan, bits, {})
    return model, plan


def test_layers_of_few_inputs_an_output_stay_float() -> None:
    _, plan = planned()
    assert list(plan.values) == ["w", "head"]
    assert {entry.dtype for entry in plan.values.values()} == {"uint4"}
    assert all("computes in floats" in node.reason for node in plan.nodes.values())
    assert [node.op for node in plan.nodes.values()] == ["Conv", "Gemm"]


def test_samples_say_which_weights_count() -> None:
    model, plan = planned(2)
    request = squares_request(model.graph, plan)
    assert set(request) == {"x", "f"}
    x = rand(1, 16, 8, 8)
    x[:, 3] *= 100  # channel 3 of the first group
    square = request["x"]["square"]()
    assert isinstance(square, ChannelSquare)
    square.update(x, 0)
    notes = choose_levels(model.graph, plan, "codebook", None, {"x": {"square": square}})
    other = planned(2)[1]
    choose_levels(model.graph, other, "codebook", None, {})
    errors = []
    for made in (plan, other):
        levels = made.values["w"].params.levels
        wrong = np.abs(CONSTANTS["w"][:16, 3, ..., None] - levels).min(axis=-1)
        errors.append(float(np.square(wrong).sum()))
    assert errors[0] < errors[1]
    assert np.array_equal(plan.values["head"].params.levels, other.values["head"].params.levels)
    assert "looks the floats up when the model is loaded" in str(notes[0])


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_granularity(granularity: str) -> None:
    model, plan = planned()
    choose_levels(model.graph, plan, "codebook", granularity, {})
    entry = plan.values["w"]
    shape = (16,) if granularity == "tensor" else (32, 16)
    assert entry.params.levels.shape == shape
    assert (entry.granularity, entry.axis) == (granularity, None if granularity == "tensor" else 0)
    size = CONSTANTS["w"].size
    assert stored_bytes(size, entry) == size // 2 + 4 * int(np.prod(shape))
    assert list(code_faults(entry, ValuePlan("w", "weight", "uint4"), (32, 8, 3, 3))) == []


def test_edits_that_cannot_be() -> None:
    now = ValuePlan("w", "weight", "uint4")
    levels = np.arange(4, dtype=np.float32)
    one, many = np.ones((), np.float32), np.ones(3, np.float32)
    zero = np.zeros((), np.int64)

    def faults(params: QuantParams | None, axis: int | None = None, dtype: str = "uint4") -> str:
        kind = "tensor" if axis is None else "channel"
        entry = ValuePlan("w", "weight", dtype, kind, axis, params=params)
        return " ".join(code_faults(entry, now, (8, 4)))

    assert faults(QuantParams(one, zero, levels)) == ""
    assert "codes of type uint4" in faults(QuantParams(one, zero, levels), dtype="uint2")
    assert "no levels" in faults(QuantParams(one, zero))
    assert "for 8 channels" in faults(QuantParams(many, zero, levels), 0)
    assert "no axis 2" in faults(QuantParams(many, zero, levels), 2)


def test_a_scale_a_channel_is_taken_where_it_pays() -> None:
    uneven = rand(64, 40) * np.float32(10.0) ** np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    for weight, axis in ((uneven, 0), (rand(64, 40), None)):
        model = parse(
            "g (float[2, 40] x) => (float[2, 64] y) { y = Gemm <transB = 1> (x, w) }",
            {"w": weight},
        )
        plan = QuantPlan("", "", "w4", weights="codebook")
        plan_codes(model.graph, plan, 4, {})
        choose_levels(model.graph, plan, "codebook", None, {})
        entry = plan.values["w"]
        assert entry.axis == axis
        assert entry.params.levels.shape == (16,)
        assert entry.params.scale.shape == (() if axis is None else (64,))
        assert float(entry.reason.split()[0]) > 18
