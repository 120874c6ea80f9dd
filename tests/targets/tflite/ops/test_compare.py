"""Comparisons, logic, Where, ArgMax, Cast."""

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from tests.passes.planning import session
from tests.targets.tflite.enclosing import check_enclosed, enclosed, integers
from tests.targets.tflite.lowering import Run, lowered, noise, parse

RUNTIMES = ("reference", "builtin", "xnnpack")
COMPARISONS = {
    "Greater": "GREATER",
    "GreaterOrEqual": "GREATER_EQUAL",
    "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
    "Equal": "EQUAL",
}
FINE, COARSE = (1e-3, 5), (0.05, 5)


def check(model: ir.Model, feeds: dict[str, np.ndarray]) -> Run:
    """Every output equals ONNX Runtime's to the last bit."""
    run = lowered(model)
    wanted = session(model).run(feeds)
    for runtime in RUNTIMES:
        for got, want in zip(run.outputs(feeds, runtime), wanted, strict=True):
            assert got.dtype == want.dtype
            np.testing.assert_array_equal(got, want)
    return run


@pytest.mark.parametrize(("op", "kernel"), COMPARISONS.items())
def test_floats(op: str, kernel: str) -> None:
    model = parse(f"g (float[2,3,4] x, float[3,1] z) => (bool y) {{ y = {op}(x, z) }}")
    feeds = noise(model)
    feeds["x"][0] = feeds["z"]  # some are equal
    assert check(model, feeds).ops == [kernel]


@pytest.mark.parametrize(("op", "kernel"), COMPARISONS.items())
@pytest.mark.parametrize(
    ("x", "z", "before"),
    [
        (COARSE, COARSE, []),
        (FINE, FINE, ["CAST", "CAST"]),  # the kernel would see 256ths of a real 1
        ((2.0, 5), (2.0, 5), ["CAST", "CAST"]),  # and takes no scale of 1 or more
        (FINE, (0.0437, -9), ["DEQUANTIZE", "DEQUANTIZE"]),
    ],
)
def test_integers_are_compared_exactly(
    op: str, kernel: str, x: tuple[float, int], z: tuple[float, int], before: list[str]
) -> None:
    model = parse(f"g (float[256,256] x, float[256,256] z) => (bool y) {{ y = {op}(x, z) }}")
    qdq = enclosed(model, {"x": x, "z": z})
    every = np.arange(-128, 128, dtype=np.int8)
    feeds = dict(zip(("x", "z"), (a.copy() for a in np.meshgrid(every, every)), strict=True))
    assert check(qdq, feeds).ops == [*before, kernel]


def test_comparison_with_a_float_constant() -> None:
    model = parse(
        "g (float[1,256] x) => (bool y) { y = Greater(x, c) }", {"c": np.float32([0.1234])}
    )
    qdq = enclosed(model)
    assert check(qdq, integers(qdq)).ops == ["DEQUANTIZE", "GREATER"]


def test_logic() -> None:
    model = parse(
        """g (float[2,8] x, float[2,8] z) => (bool y)
        { a = Greater(x, z) b = Less(x, o) c = And(a, b) d = Not(c) y = Or(d, a) }""",
        {"o": np.float32([0.5])},
    )
    run = check(model, noise(model))
    assert run.ops == ["GREATER", "LESS", "LOGICAL_AND", "LOGICAL_NOT", "LOGICAL_OR"]


def test_where_on_a_channels_last_value() -> None:
    text = """g (float[1,6,4,5] x, bool[5] c, float[6,1,1] z) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) y = Where(c, a, z) }"""
    model = parse(text)
    rng = np.random.default_rng(0)
    condition = {"c": np.asarray([True, False, True, True, False])}
    feeds = {
        "x": rng.standard_normal((1, 6, 4, 5)).astype(np.float32),
        "z": rng.standard_normal((6, 1, 1)).astype(np.float32),
        **condition,
    }
    assert "SELECT_V2" in check(model, feeds).ops
    same = dict.fromkeys("xazy", (1 / 32, -10))
    run = check_enclosed(text, params=same, feeds=condition)
    assert "QUANTIZE" not in run.ops and run.count["SELECT_V2"] == 1
    run = check_enclosed(text, params={**same, "z": (1 / 20, 3)}, feeds=condition, lsb=1, share=0.1)
    assert run.count["QUANTIZE"] == 1  # the kernel copies raw integers


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
def test_index_of_the_extreme(op: str, axis: int, keep: int) -> None:
    model = parse(
        f"""g (float[2,6,4,5] x) => (int64 y)
        {{ a = MaxPool<kernel_shape=[1,1]>(x) y = {op}<axis={axis}, keepdims={keep}>(a) }}"""
    )
    feeds = {"x": np.random.default_rng(0).permutation(240).reshape(2, 6, 4, 5).astype(np.float32)}
    run = check(model, feeds)
    assert "TRANSPOSE" not in run.ops or run.ops[-1] == "TRANSPOSE"  # for the output alone
    qdq = enclosed(model, dict.fromkeys("xa", (1 / 32, 4)))
    x = np.random.default_rng(1).permuted(np.arange(240).reshape(2, -1) % 255 - 127, axis=1)
    check(qdq, {"x": x.reshape(2, 6, 4, 5).astype(np.int8)})


def test_first_of_equal_ones() -> None:
    model = parse("g (float[3,40] x) => (int64 y) { y = ArgMax<axis=1, keepdims=0>(x) }")
    run = lowered(model)
    x = np.zeros((3, 40), np.float32)
    x[0, [3, 20]], x[1, [7, 30, 39]] = 1, 2
    got = {runtime: run.outputs({"x": x}, runtime)[0].tolist() for runtime in RUNTIMES}
    assert got == {runtime: [3, 7, 0] for runtime in RUNTIMES}


@settings(max_examples=40, deadline=None)
@given(
    kinds=st.permutations(["float", "int32", "int64", "bool"]),
    values=st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4),
)
def test_casts(kinds: list[str], values: list[float]) -> None:
    numbers: Any = {"float": 1, "int32": 6, "int64": 7, "bool": 9}
    source, wanted = kinds[:2]
    model = parse(f"g ({source}[4] x) => ({wanted} y) {{ y = Cast<to={numbers[wanted]}>(x) }}")
    dtype = {"float": "float32"}.get(source, source)
    check(model, {"x": np.asarray(values).astype(dtype)})


def test_cast_of_a_quantized_value_is_of_its_real_one() -> None:
    model = parse("g (float[1,256] x) => (int32 y) { y = Cast<to=6>(x) }")
    qdq = enclosed(model, {"x": (0.25, 9)})
    assert check(qdq, integers(qdq)).ops == ["DEQUANTIZE", "CAST"]


def test_a_type_without_kernels_is_refused() -> None:
    model = parse("g (float[4] x) => (double y) { y = Cast<to=11>(x) }")
    with pytest.raises(QCompileError, match="no float64") as error:
        lowered(model)
    assert error.value.code is Code.SCHEME_UNSUPPORTED and error.value.node == "Cast_0"


def test_the_last_of_equal_ones_is_refused() -> None:
    model = parse("g (float[4] x) => (int64 y) { y = ArgMax<select_last_index=1>(x) }")
    with pytest.raises(QCompileError, match="the first of equal ones"):
        lowered(model)


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("ends", ["float y, int64 i", "float y"])
def test_top_k(axis: int, ends: str) -> None:
    model = parse(
        f"g (float[3,4,5] x) => ({ends}) {{ y, i = TopK<axis={axis}>(x, k) }}",
        {"k": np.array([2], np.int64)},
    )
    x = np.round(noise(model)["x"])  # with equal ones
    run = check(model, {"x": x})
    assert "TOPK_V2" in run.ops and ("CAST" in run.ops) == ("int64" in ends)


def test_top_k_behind_channels_last() -> None:
    model = parse(
        """g (float[1,6,4,5] x) => (float y, int64 i) {
            a = MaxPool<kernel_shape=[1,1]>(x) y, i = TopK<axis=1>(a, k)
        }""",
        {"k": np.array([3], np.int64)},
    )
    assert check(model, noise(model)).ops == ["MAX_POOL_2D", "TOPK_V2", "CAST"]


def test_top_k_between_quantizers_is_of_floats() -> None:
    model = parse(
        "g (float[3,4,5] x) => (float y, int64 i) { y, i = TopK(x, k) }",
        {"k": np.array([2], np.int64)},
    )
    quantized = enclosed(model, {"x": FINE, "y": COARSE})
    ops = ["DEQUANTIZE", "TOPK_V2", "QUANTIZE", "CAST"]
    assert check(quantized, integers(quantized)).ops == ops


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("g (float[3,4] x) => (float y) { y, i = TopK<largest=0>(x, k) }", "largest"),
        ("g (float[3,4] x, int64[1] n) => (float y) { y, i = TopK(x, n) }", "how many"),
    ],
)
def test_top_k_refused(text: str, why: str) -> None:
    model = parse(text, {"k": np.array([2], np.int64)})
    with pytest.raises(QCompileError, match=why) as error:
        lowered(model)
    assert error.value.code is Code.SCHEME_UNSUPPORTED
