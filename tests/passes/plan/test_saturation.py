"""What becomes of a weight on a target whose sums saturate."""

from dataclasses import replace

import numpy as np
import pytest

from qcompile.core.numerics.affine import dequantize, quantize, symmetric_params
from qcompile.core.numerics.saturation import channels_at_risk, kind_of
from qcompile.core.plan import QuantParams
from qcompile.core.target import Target
from qcompile.passes.plan.saturation import SafeWeight, keep_from_saturating
from qcompile.targets.catalog import load_target

AVX2 = load_target("ort-x86-avx2")
assert AVX2.saturation is not None
PATIENT = replace(AVX2, saturation=replace(AVX2.saturation, alternative_cost={}))
"""AVX2 where the other weight type is never worth its time."""
HASTY = replace(AVX2, saturation=replace(AVX2.saturation, worth=0.0))
"""AVX2 where any loss justifies the other type."""
SCALE = np.float32(2**-7)
SAFE_ROW, RISKY_ROW = [127, -127, 60, 60], [127, 127, 1, 0]


def channel_params(weight: np.ndarray, axis: int = 0) -> QuantParams:
    others = tuple(i for i in range(weight.ndim) if i != axis)
    return QuantParams(*symmetric_params(np.abs(weight).max(axis=others), "int8"))


def rows(*integers: list[int]) -> tuple[np.ndarray, QuantParams]:
    """A Gemm (transB) weight on the grid of SCALE, and its parameters."""
    scale = np.full(len(integers), SCALE)
    zero = np.zeros(len(integers), np.int64)
    return np.array(integers, np.float32) * SCALE, QuantParams(scale, zero)


def keep(weight: np.ndarray, params: QuantParams, target: Target = PATIENT) -> SafeWeight:
    return keep_from_saturating(weight, "int8", params, 0, "gemm", target)


def test_a_proved_weight_is_left_alone() -> None:
    weight, params = rows(SAFE_ROW)
    kept = keep(weight, params)
    assert not kept.changed
    assert kept.params is params
    assert (kept.dtype, kept.at_risk, kept.loss_db, kept.reason) == ("int8", 0, 0.0, "")


def test_only_the_channels_at_risk_change() -> None:
    weight, params = rows(SAFE_ROW, RISKY_ROW, SAFE_ROW)
    kept = keep(weight, params)
    assert kept.at_risk == 1
    assert (kept.params.scale > params.scale).tolist() == [False, True, False]
    assert kept.reason.startswith("1 of 3 channels could overflow int16 on ort-x86-avx2: their")


def test_a_scale_for_all_is_split_where_it_may_be() -> None:
    weight, params = rows(SAFE_ROW, RISKY_ROW)
    one = QuantParams(params.scale[0].reshape(()), params.zero_point[0].reshape(()))
    split = keep_from_saturating(weight, "int8", one, 0, "gemm", PATIENT, per_channel=True)
    assert split.params.scale.shape == split.params.zero_point.shape == (2,)
    assert split.params.scale[0] == SCALE
    whole = keep(weight, one)
    assert whole.params.scale.shape == whole.params.zero_point.shape == ()
    assert whole.params.scale == split.params.scale[1]
    assert whole.loss_db > split.loss_db


def test_the_other_type_keeps_every_value() -> None:
    weight, params = rows(SAFE_ROW, RISKY_ROW)
    kept = keep(weight, params, HASTY)
    assert kept.dtype == "uint8"
    assert (kept.params.zero_point == 128).all()
    assert np.array_equal(kept.params.scale, params.scale)
    u8 = quantize(weight, kept.params.scale, kept.params.zero_point, "uint8", 0)
    s8 = quantize(weight, params.scale, params.zero_point, "int8", 0)
    assert np.array_equal(u8.astype(np.int16) - 128, s8)
    assert "uint8, since safe scales would lose" in kept.reason


def test_the_bargain_is_the_targets() -> None:
    weight, params = rows(RISKY_ROW)
    loss = keep(weight, params).loss_db
    assert AVX2.saturation is not None
    assert loss > 5  # 127 + 127 must become 64 + 64: one bit
    for worth, dtype in ((loss * 1.01, "int8"), (loss * 0.99, "uint8")):
        cost = {"gemm": 2.0}
        priced = replace(AVX2.saturation, worth=worth, alternative_cost=cost)
        assert keep(weight, params, replace(AVX2, saturation=priced)).dtype == dtype


@pytest.mark.parametrize("name", ["ort-x86-vnni", "ort-arm64"])
def test_a_target_that_sums_in_32_bits_changes_nothing(name: str) -> None:
    weight, params = rows(RISKY_ROW)
    assert not keep(weight, params, load_target(name)).changed


def test_unsigned_weights_and_depthwise_kernels_are_exempt() -> None:
    weight, params = rows(RISKY_ROW)
    shifted = QuantParams(params.scale, params.zero_point + 128)
    assert not keep_from_saturating(weight, "uint8", shifted, 0, "gemm", AVX2).changed
    depthwise = np.full((4, 1, 3, 3), 0.5, np.float32)
    kind = kind_of("Conv", depthwise.shape, 4)
    given = channel_params(depthwise)
    assert not keep_from_saturating(depthwise, "int8", given, 0, kind, AVX2).changed


def test_a_dead_channel_weighs_nothing() -> None:
    weight, params = rows(RISKY_ROW, [0, 0, 0, 0])
    alone, _ = rows(RISKY_ROW)
    kept = keep(weight, params)
    assert kept.params.scale[1] == SCALE
    assert kept.loss_db == pytest.approx(keep(alone, rows(RISKY_ROW)[1]).loss_db / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("op", "shape", "axis"),
    [
        ("Conv", (24, 16, 3, 3), 0),
        ("Conv", (24, 3, 5, 5), 0),
        ("Gemm", (24, 50), 0),
        ("MatMul", (51, 24), 1),
    ],
)
def test_random_weights_end_up_proved(op: str, shape: tuple[int, ...], axis: int) -> None:
    weight = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
    kind = kind_of(op, shape)
    assert kind is not None
    assert AVX2.saturation is not None
    kept = keep_from_saturating(weight, "int8", channel_params(weight, axis), axis, kind, PATIENT)
    integers = quantize(weight, kept.params.scale, kept.params.zero_point, "int8", axis)
    pairing = AVX2.saturation.pairing[kind]
    assert kept.at_risk > 0
    assert not channels_at_risk(integers, axis, pairing, AVX2.saturation).any()
    error = dequantize(integers, kept.params.scale, kept.params.zero_point, axis) - weight
    steps = np.moveaxis(np.abs(error), axis, -1) / kept.params.scale
    assert steps.max() <= 0.5 + 1e-4  # nothing is clipped
    assert 0 < kept.loss_db < 6.1
