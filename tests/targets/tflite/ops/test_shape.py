"""Reshape and its kin on any layout, Transpose, Expand, Tile."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.layout import apply
from qcompile.targets.tflite.ops.shape import regrouped
from tests.targets.tflite.enclosing import check_enclosed
from tests.targets.tflite.lowering import check_float, lowered, parse

SAME = (1 / 32, -10)
POOL = "a = MaxPool<kernel_shape=[1,1]>(x)"
"""Something that stores its result channels last."""


def behind_pool(call: str, shape: str = "1,6,4,5") -> str:
    return f"g (float[{shape}] x) => (float y) {{ {POOL} y = {call} }}"


def ints(*values: int) -> dict[str, np.ndarray]:
    return {"s": np.asarray(values, np.int64)}


@pytest.mark.parametrize(
    ("perm", "before", "after", "order"),
    [
        ((0, 1, 2, 3), (2, 3, 4, 5), (6, 20), (0, 1)),
        ((0, 2, 3, 1), (1, 6, 4, 5), (1, 6, 20), (0, 2, 1)),  # spatial axes lie together
        ((0, 2, 3, 1), (1, 6, 4, 5), (6, 4, 5), (1, 2, 0)),  # a leading 1 goes
        ((0, 2, 3, 1), (2, 6, 4, 5), (2, 2, 3, 4, 5), (0, 3, 4, 1, 2)),  # channels are split
        ((0, 2, 3, 1), (1, 6, 1, 1), (1, 6), (0, 1)),  # bytes are in logical order
        ((0, 2, 3, 1), (1, 6, 4, 5), (1, 120), None),  # channels are outside
        ((0, 2, 3, 1), (1, 6, 4, 5), (1, 24, 5), None),
    ],
)
def test_where_a_reshaped_value_lies(
    perm: tuple[int, ...],
    before: tuple[int, ...],
    after: tuple[int, ...],
    order: tuple[int, ...] | None,
) -> None:
    assert regrouped(perm, before, after) == order


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_regrouping_keeps_the_stored_elements(data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5))
    perm = tuple(data.draw(st.permutations(range(len(sizes)))))
    total, after = int(np.prod(sizes)), []
    while total > 1 and len(after) < 5:
        divisors = [d for d in range(1, total + 1) if total % d == 0]
        after.append(data.draw(st.sampled_from(divisors)))
        total //= after[-1]
    after.append(total)
    x = np.arange(np.prod(sizes)).reshape(sizes)
    order = regrouped(perm, sizes, after)
    if order is None:
        return
    assert sorted(order) == list(range(len(after)))
    stored = np.transpose(x, perm).reshape(apply(order, after))
    np.testing.assert_array_equal(np.transpose(stored, np.argsort(order)), x.reshape(after))


@pytest.mark.parametrize(
    "call",
    [
        "Reshape(a, s)",
        "Unsqueeze(a, s)",
        "Flatten<axis=2>(a)",
    ],
)
def test_no_transpose_where_axes_lie_together(call: str) -> None:
    used = ints(0) if "Unsq" in call else ints(1, 6, 20) if "Resh" in call else {}
    text = behind_pool(call)
    for run in (check_float(text, used), check_enclosed(text, used, params={"a": SAME, "y": SAME})):
        # The output of the graph is laid out for the caller, in ONNX's order.
        assert run.count["TRANSPOSE"] <= 1 and run.ops[:2] == ["MAX_POOL_2D", "RESHAPE"]


def test_reshape_between_two_channels_last_ops_costs_nothing() -> None:
    text = """g (float[1,6,4,5] x) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) b = Squeeze(a, s) c = Unsqueeze(b, s)
          y = MaxPool<kernel_shape=[1,1]>(c) }"""
    assert check_float(text, ints(0)).count["TRANSPOSE"] == 0


def test_flatten_of_a_picture_is_told() -> None:
    run = check_float(behind_pool("Flatten(a)"))
    assert run.ops == ["MAX_POOL_2D", "TRANSPOSE", "RESHAPE"]
    assert "transposed" in run.lowered.notes[0].message


def test_flatten_before_a_matrix_moves_the_matrix_instead() -> None:
    text = """g (float[1,6,4,5] x) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) b = Flatten(a) y = MatMul(b, w) }"""
    rng = np.random.default_rng(0)
    run = check_float(text, {"w": rng.standard_normal((120, 3)).astype(np.float32)})
    assert "TRANSPOSE" not in run.ops


def test_transposes_only_renumber_axes() -> None:
    text = """g (float[1,6,4,5] x) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) b = Transpose<perm=[0,2,3,1]>(a) c = Neg(b)
          d = Transpose<perm=[0,3,1,2]>(c) y = MaxPool<kernel_shape=[1,1]>(d) }"""
    assert check_float(text).ops == ["MAX_POOL_2D", "NEG", "MAX_POOL_2D"]
    run = check_enclosed(text, params=dict.fromkeys("abcdy", (1 / 32, 10)), lsb=1, share=0.01)
    assert "TRANSPOSE" not in run.ops


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(4)))
def test_any_transpose(order: list[int]) -> None:
    text = f"g (float[2,3,4,5] x) => (float y) {{ a = Abs(x) y = Transpose<perm={order}>(a) }}"
    check_float(text, runtimes=("reference",))


@pytest.mark.parametrize(
    ("call", "used"),
    [
        ("Reshape(x, s)", ints(2, 60)),
        ("Transpose<perm=[0,2,3,1]>(x)", {}),
        ("Identity(x)", {}),
        ("Expand(x, s)", ints(3, 1, 6, 4, 5)),
        ("Tile(x, s)", ints(1, 2, 1, 3)),
        ("Squeeze(x, s)", ints(0)),
    ],
)
def test_unequal_parameters_are_requantized_first(call: str, used: dict[str, np.ndarray]) -> None:
    # The kernels only copy: without QUANTIZE the integers would silently mean something else.
    text = f"g (float[1,6,4,5] x) => (float y) {{ y = {call} }}"
    run = check_enclosed(text, used, params={"y": (1 / 20, 7)}, lsb=1, share=0.1)
    assert run.ops[0] == "QUANTIZE" and run.count["QUANTIZE"] == 1
    run = check_enclosed(text, used, params={"y": SAME})
    assert "QUANTIZE" not in run.ops


@pytest.mark.parametrize("sizes", [(1, 6, 4, 5), (3, 6, 1, 5), (2, 1, 6, 4, 5), (6, 4, 5)])
def test_expand_on_channels_last(sizes: tuple[int, ...]) -> None:
    text = """g (float[1,6,1,5] x) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) y = Expand(a, s) }"""
    run = check_float(text, ints(*sizes))
    assert ("BROADCAST_TO" in run.ops) == (int(np.prod(sizes)) > 30)
    check_enclosed(text, ints(*sizes), params={"a": SAME, "y": SAME})


def test_tile_on_channels_last() -> None:
    text = behind_pool("Tile(a, s)")
    check_float(text, ints(2, 1, 3, 2))
    run = check_enclosed(text, ints(2, 1, 3, 2), params={"a": SAME, "y": SAME})
    assert run.count["TILE"] == 1 and "TRANSPOSE" not in run.ops


def test_integers_that_are_no_quantized_numbers() -> None:
    text = "g (int64[2,3] x) => (int64 y) { a = Transpose(x) y = Reshape(a, s) }"
    run = lowered(parse(text, ints(6)))
    x = np.arange(6, dtype=np.int64).reshape(2, 3)
    np.testing.assert_array_equal(run.outputs({"x": x})[0], x.T.reshape(6))


def test_a_single_number_without_axes() -> None:
    text = """g (float[1,1] x) => (float y)
        { a = Neg(x) b = Reshape(a, s) c = Neg(b) y = Unsqueeze(c, n) }"""
    used = {"s": np.zeros(0, np.int64), "n": np.zeros(1, np.int64)}
    run = check_float(text, used, runtimes=("reference", "builtin", "xnnpack"))
    assert run.ops == ["NEG", "SQUEEZE", "NEG", "RESHAPE"]


def test_computed_counts_are_refused() -> None:
    text = "g (float[2,3] x, int64[2] s) => (float y) { y = Tile(x, s) }"
    with pytest.raises(QCompileError) as error:
        lowered(_with_shape(text, (4, 6)))
    assert error.value.code is Code.SCHEME_UNSUPPORTED
    assert "Tile" in str(error.value) and "computed" in str(error.value)


def _with_shape(text: str, shape: tuple[int, ...]) -> ir.Model:
    model = parse(text)
    model.graph.outputs[0].shape = ir.Shape(shape)
    return model
