"""Concat, Split, Slice, Gather, Pad, on channels-last values too."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.prove import executed
from qcompile.targets.tflite.reading import read_graph
from tests.targets.tflite.enclosing import check_enclosed, enclosed, integers
from tests.targets.tflite.lowering import check_float, check_integer, lowered, parse

SAME = (1 / 32, -10)
OTHER = (1 / 20, 7)


def picture(call: str, outputs: str = "y", shape: str = "1,6,4,5") -> str:
    """A call on ``a``, which is stored channels last."""
    ends = ", ".join(f"float {name}" for name in outputs.split(", "))
    return f"""g (float[{shape}] x) => ({ends})
        {{ a = MaxPool<kernel_shape=[1,1]>(x) {outputs} = {call} }}"""


def kept(outputs: str) -> dict[str, tuple[float, int]]:
    return dict.fromkeys(("x", "a", *outputs.split(", ")), SAME)


def lists(**named: list[int] | int) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, np.int64) for name, values in named.items()}


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -3])
def test_concat(axis: int) -> None:
    constant = {"c": np.linspace(-1, 1, 120, dtype=np.float32).reshape(1, 6, 4, 5)}
    text = f"""g (float[1,6,4,5] x) => (float y)
        {{ a = MaxPool<kernel_shape=[1,1]>(x) b = Neg(a) y = Concat<axis={axis}>(a, c, b) }}"""
    assert check_float(text, constant).ops == ["MAX_POOL_2D", "NEG", "CONCATENATION"]
    assert check_integer(text, constant).ops == ["MAX_POOL_2D", "MUL", "CONCATENATION"]


@pytest.mark.parametrize(("count", "steps"), [(5, 1), (6, 2), (9, 2), (10, 3), (13, 3), (14, 4)])
@pytest.mark.parametrize("axis", [1, 3])
def test_concat_of_more_than_xnnpack_takes(count: int, steps: int, axis: int) -> None:
    names = ", ".join(f"v{i % 3}" for i in range(count))
    made = " ".join(
        f"v{i} = MaxPool<kernel_shape=[{k},1], pads=[{k // 2},0,{k // 2},0]>(x)"
        for i, k in enumerate((1, 3, 5))
    )
    text = f"g (float[1,6,4,5] x) => (float y) {{ {made} y = Concat<axis={axis}>({names}) }}"
    assert check_float(text).ops.count("CONCATENATION") == steps
    run = check_integer(text)
    assert run.ops.count("CONCATENATION") == steps
    graph = read_graph(run.lowered.data)
    assert max(len(o.inputs) for o in graph.operators if o.name == "CONCATENATION") <= 5
    assert not [o for o in executed(run.lowered.data).left if o.op == "CONCATENATION"]


def test_concat_puts_the_smallest_neighbours_together_first() -> None:
    sizes = (9, 9, 1, 2, 9, 9)
    cut = " ".join(f"v{i} = Slice(x, z, e{i}, one)" for i in range(6))
    text = f"""g (float[1,9] x) => (float y)
        {{ {cut} y = Concat<axis=1>(v0, v1, v2, v3, v4, v5) }}"""
    ends = {f"e{i}": np.array([size]) for i, size in enumerate(sizes)}
    run = check_float(text, {**ends, "z": np.array([0]), "one": np.array([1])})
    graph = read_graph(run.lowered.data)
    first = next(o for o in graph.operators if o.name == "CONCATENATION")
    assert [graph.tensors[i].shape for i in first.inputs] == [(1, 1), (1, 2)]


def test_concat_on_micro_is_one_operator() -> None:
    text = """g (float[1,4] x) => (float y)
        { a = Relu(x) b = Neg(a) y = Concat<axis=1>(a, b, a, b, a, b, a) }"""
    run = lowered(parse(text), target=load_target("tflite-micro"))
    assert run.ops.count("CONCATENATION") == 1


def test_concat_converts_the_part_with_other_parameters() -> None:
    text = """g (float[1,6,4,5] x) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) b = Neg(a) y = Concat<axis=1>(a, b) }"""
    run = check_enclosed(text, params={**kept("y"), "b": (1 / 32, 10)}, lsb=1, share=0.02)
    assert run.ops == ["MAX_POOL_2D", "MUL", "QUANTIZE", "CONCATENATION"]


def test_concat_of_values_in_different_orders() -> None:
    text = """g (float[1,6,4,5] x, float[4,5] z) => (float y)
        { a = MaxPool<kernel_shape=[1,1]>(x) b = Unsqueeze(z, n) y = Concat<axis=1>(a, b) }"""
    run = check_float(text, lists(n=[0, 1]))
    assert run.count["CONCATENATION"] == 1 and run.count["TRANSPOSE"] == 0


@pytest.mark.parametrize(
    ("call", "outputs", "used", "ops"),
    [
        ("Split<axis=1, num_outputs=3>(a)", "y, z, w", {}, ["SPLIT"]),
        ("Split<axis=-1>(a, s)", "y, z", lists(s=[2, 3]), ["SLICE", "SLICE"]),
        ("Split<axis=1>(a, s)", "y, z, w", lists(s=[1, 2, 3]), ["SLICE"] * 3),
    ],
)
def test_split(call: str, outputs: str, used: dict[str, np.ndarray], ops: list[str]) -> None:
    text = picture(call, outputs)
    assert check_float(text, used).ops == ["MAX_POOL_2D", *ops]
    assert check_enclosed(text, used, params=kept(outputs)).ops == ["MAX_POOL_2D", *ops]


def test_split_whose_parts_have_parameters_of_their_own() -> None:
    params = {**kept("y"), "z": OTHER}
    run = check_enclosed(
        picture("Split<axis=1, num_outputs=2>(a)", "y, z"), params=params, lsb=1, share=0.1
    )
    assert run.ops == ["MAX_POOL_2D", "SLICE", "QUANTIZE", "SLICE"]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_slice(data: st.DataObject) -> None:
    shape = (2, 6, 4, 5)
    axes = data.draw(
        st.lists(st.integers(-4, 3), min_size=1, max_size=3, unique_by=lambda a: a % 4)
    )
    number = st.integers(-8, 8)
    starts = [data.draw(number) for _ in axes]
    ends = [data.draw(number) for _ in axes]
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2])) for _ in axes]
    cut = [slice(None)] * 4
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if step < 0 and end < -shape[axis % 4]:
            end = None
        cut[axis % 4] = slice(start, end, step)
    if 0 in np.empty(shape)[tuple(cut)].shape:
        return
    used = lists(s=starts, e=ends, n=axes, t=steps)
    run = check_float(picture("Slice(a, s, e, n, t)", shape="2,6,4,5"), used)
    assert ("STRIDED_SLICE" in run.ops) == (set(steps) != {1})


@pytest.mark.parametrize("steps", [[1, 1], [2, 1], [1, -1]])
def test_slice_in_integers(steps: list[int]) -> None:
    last = [4, -9] if steps[1] < 0 else [0, 5]
    used = lists(s=[1, last[0]], e=[5, last[1]], n=[1, 3], t=steps)
    text = picture("Slice(a, s, e, n, t)")
    run = check_enclosed(text, used, params=kept("y"))
    assert run.ops == ["MAX_POOL_2D", "SLICE" if steps == [1, 1] else "STRIDED_SLICE"]
    run = check_enclosed(text, used, params={**kept("y"), "y": OTHER}, lsb=1, share=0.1)
    assert run.ops[1] == "QUANTIZE"


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1])
@pytest.mark.parametrize("indices", [[1], [0, -1, 0], [[0, 1], [1, 0]], 1, -1])
def test_gather_by_constant_indices(axis: int, indices: list[int] | int) -> None:
    used, text = lists(i=indices), picture(f"Gather<axis={axis}>(a, i)", shape="2,6,4,5")
    one = np.size(indices) == 1
    for run in (check_float(text, used), check_enclosed(text, used, params=kept("y"))):
        assert run.ops[1] == ("SLICE" if one else "GATHER")


def test_gather_by_computed_indices() -> None:
    text = "g (float[7,5] x, int64[2,3] i) => (float y) { y = Gather(x, i) }"
    table = {"i": np.asarray([[0, 6, 3], [2, 2, 1]], np.int64)}
    assert check_enclosed(text, params={"y": SAME}, feeds=table).ops == ["GATHER"]
    run = check_enclosed(text, params={"y": OTHER}, feeds=table, lsb=1, share=0.2)
    assert run.ops == ["QUANTIZE", "GATHER"]


def test_gather_by_a_negative_computed_index_stops_the_run() -> None:
    model = parse("g (float[7,5] x, int64[1] i) => (float y) { y = Gather(x, i) }")
    run = lowered(model)
    feeds = {"x": np.zeros((7, 5), np.float32), "i": np.asarray([-1], np.int64)}
    with pytest.raises(RuntimeError, match="gather"):
        run.outputs(feeds)


@pytest.mark.parametrize(
    ("value", "op"), [(None, "PAD"), (0.0, "PAD"), (-1.5, "PADV2"), (-np.inf, "PADV2")]
)
def test_pad_by_a_constant(value: float | None, op: str) -> None:
    used = lists(p=[0, 1, 0, 2, 0, 0, 3, 1])
    call = "Pad(a, p)"
    if value is not None:
        used["v"], call = np.asarray(value, np.float32), "Pad(a, p, v)"
    if value is None or np.isfinite(value):
        assert check_float(picture(call), used).ops == ["MAX_POOL_2D", op]
    # Zero is the zero point, infinity saturates: as the QDQ graph has it.
    assert check_enclosed(picture(call), used, params=kept("y")).ops == ["MAX_POOL_2D", op]
    run = check_enclosed(picture(call), used, params={**kept("y"), "y": OTHER}, lsb=1, share=0.1)
    assert run.ops == ["MAX_POOL_2D", "QUANTIZE", op]


def test_pad_of_some_axes_and_backwards() -> None:
    used = lists(p=[-1, 2, 1, -2], n=[-1, 2])
    text = picture("Pad(a, p, , n)")
    assert check_float(text, used).ops == ["MAX_POOL_2D", "SLICE", "PAD"]
    check_enclosed(text, used, params=kept("y"))


def test_pad_by_reflection() -> None:
    used = lists(p=[0, 0, 1, 2, 0, 0, 3, 1])
    text = picture('Pad<mode="reflect">(a, p)')
    assert check_float(text, used).ops == ["MAX_POOL_2D", "MIRROR_PAD"]
    check_enclosed(text, used, params=kept("y"))


@pytest.mark.parametrize(
    ("widths", "ops"),
    [
        ([0, 0, 1, 2, 0, 0, 3, 1], ["GATHER", "GATHER"]),
        ([0, 2, 0, 0, 0, 0, 0, 0], ["GATHER"]),
        ([0, 0, -1, 2, 0, 0, 3, 0], ["SLICE", "GATHER", "GATHER"]),
        ([0] * 8, ["RESHAPE"]),
    ],
)
def test_pad_by_the_edge(widths: list[int], ops: list[str]) -> None:
    text, used = picture('Pad<mode="edge">(a, p)'), lists(p=widths)
    assert check_float(text, used).ops == ["MAX_POOL_2D", *ops]
    check_enclosed(text, used, params=kept("y"))


@pytest.mark.parametrize(
    ("call", "used", "why"),
    [
        ('Pad<mode="wrap">(a, p)', lists(p=[0, 0, 1, 2, 0, 0, 3, 1]), "mode wrap"),
        ("Pad(a, p, v)", {**lists(p=[0] * 8), "v": np.float32(np.nan)}, "constant number"),
    ],
)
def test_refusals(call: str, used: dict[str, np.ndarray], why: str) -> None:
    with pytest.raises(QCompileError, match=why) as error:
        lowered(parse(picture(call), used))
    assert error.value.code is Code.SCHEME_UNSUPPORTED and error.value.node == "Pad_1"


def test_computed_bounds_are_refused() -> None:
    model = parse("g (float[6] x, int64[1] s, int64[1] e) => (float y) { y = Slice(x, s, e) }")
    model.graph.outputs[0].shape = ir.Shape((3,))
    with pytest.raises(QCompileError, match="computed as the model runs"):
        lowered(model)


def test_every_part_of_an_integer_slice_is_the_graph_s() -> None:
    # Without parameters to reconcile the integers are copied bit by bit.
    qdq = enclosed(parse(picture("Slice(a, s, e)"), lists(s=[0, 2], e=[1, 5])), kept("y"))
    feeds = integers(qdq)
    np.testing.assert_array_equal(lowered(qdq).outputs(feeds)[0], feeds["x"][:, 2:5])
