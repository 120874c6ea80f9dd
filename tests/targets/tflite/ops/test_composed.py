"""Normalizations composed of float operators."""

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from tests.targets.tflite.enclosing import check_enclosed
from tests.targets.tflite.lowering import check_float, lowered, parse

RNG = np.random.default_rng(0)
GAIN = {"s": RNG.uniform(0.5, 2, 6).astype(np.float32)}
BIAS = {"b": RNG.standard_normal(6).astype(np.float32)}
NORMAL = ["MEAN", "SUB", "MUL", "MEAN", "ADD", "RSQRT", "MUL"]


def vectors(call: str) -> str:
    return f"g (float[2,5,6] x) => (float y) {{ y = {call} }}"


def pictures(call: str, channels: int = 6) -> str:
    """Of a value that is stored channels last."""
    return f"""g (float[2,{channels},4,5] x) => (float y)
        {{ a = MaxPool<kernel_shape=[1,1]>(x) y = {call} }}"""


@pytest.mark.parametrize(
    ("call", "used", "ops"),
    [
        ("LayerNormalization(x, s, b)", {**GAIN, **BIAS}, [*NORMAL, "MUL", "ADD"]),
        ("LayerNormalization<axis=2, epsilon=0.1>(x, s)", GAIN, [*NORMAL, "MUL"]),
    ],
)
def test_layer_normalization(call: str, used: dict[str, np.ndarray], ops: list[str]) -> None:
    assert check_float(vectors(call), used).ops == ops
    run = check_enclosed(vectors(call), used, lsb=1, share=0.02)
    assert run.ops == ["DEQUANTIZE", *ops, "QUANTIZE"]
    assert "computed in float" in run.lowered.notes[0].message


def test_layer_normalization_of_several_axes_channels_last() -> None:
    gain = {"s": RNG.uniform(0.5, 2, (6, 4, 5)).astype(np.float32)}
    run = check_float(pictures("LayerNormalization<axis=1>(a, s)"), gain)
    assert run.count["TRANSPOSE"] <= 1  # of the output


def test_rms_normalization() -> None:
    text = """<ir_version: 10, opset_import: ["" : 23]>
        g (float[2,5,6] x) => (float y) { y = RMSNormalization<epsilon=0.01>(x, s) }"""
    ops = ["MUL", "MEAN", "ADD", "RSQRT", "MUL", "MUL"]
    assert check_float(text, GAIN).ops == ops
    assert check_enclosed(text, GAIN, lsb=1, share=0.02).ops == ["DEQUANTIZE", *ops, "QUANTIZE"]


def test_instance_normalization() -> None:
    text = pictures("InstanceNormalization(a, s, b)")
    run = check_float(text, {**GAIN, **BIAS}, atol=5e-6)
    assert run.ops[:10] == ["MAX_POOL_2D", *NORMAL, "MUL", "ADD"]


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_normalization(groups: int) -> None:
    call = f"GroupNormalization<num_groups={groups}>(a, s, b)"
    model = parse(pictures(call), {**GAIN, **BIAS})
    model.graph.outputs[0].shape = model.graph.inputs[0].shape  # ONNX does not infer it
    run = check_float(model, atol=5e-6)
    assert run.count["TRANSPOSE"] <= 1  # of the output


def test_batch_normalization_that_nothing_took() -> None:
    used = {
        **GAIN,
        **BIAS,
        "m": RNG.standard_normal(6).astype(np.float32),
        "v": RNG.uniform(0.5, 2, 6).astype(np.float32),
    }
    text = pictures("BatchNormalization(a, s, b, m, v)")
    assert check_float(text, used).ops[:3] == ["MAX_POOL_2D", "MUL", "ADD"]


@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[1], [2, 3], [-1], []])
def test_norm_of_axes(axes: list[int], keep: int) -> None:
    text = pictures(f"ReduceL2<keepdims={keep}>(a, n)")
    run = check_float(text, {"n": np.asarray(axes, np.int64)})
    assert run.ops[1:4] == ["MUL", "SUM", "SQRT"]


@pytest.mark.parametrize("axis", [1, -1])
def test_l2_normalization_channels_last(axis: int) -> None:
    run = check_float(pictures(f"LpNormalization<axis={axis}>(a)"))
    assert (run.ops[1] == "L2_NORMALIZATION") == (axis == 1)  # channels are innermost


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("LpNormalization<p=1>(x)", "sum of squares"),
        ("BatchNormalization(x, s, b, x2, b)", "computed as the model runs"),
    ],
)
def test_refusals(call: str, why: str) -> None:
    text = f"g (float[2,6] x, float[6] x2) => (float y) {{ y = {call} }}"
    used = {**GAIN, **BIAS} if "Batch" in call else {}
    with pytest.raises(QCompileError, match=why) as error:
        lowered(parse(text, used))
    assert error.value.code is Code.SCHEME_UNSUPPORTED


def test_a_mean_that_is_read_is_refused() -> None:
    text = """g (float[2,5,6] x) => (float y, float m)
        { y, m = LayerNormalization(x, s) }"""
    with pytest.raises(QCompileError, match="mean or deviation is read"):
        lowered(parse(text, GAIN))
