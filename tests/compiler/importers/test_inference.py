"""Shapes: inferred, folded where they are computed, and named where that fails."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.graph import constant, static_shape
from tests.compiler.importers.build import parse, random_feeds, run, same, save

DETECTOR = """g (float[{batch},8,4,5] x) => (float[A,B,2] y) {{
    t = Transpose<perm=[0,2,3,1]>(x)
    s1 = Shape(t) n1 = Constant<value = int64 {{0}}>() d = Gather<axis=0>(s1, n1)
    s2 = Shape(x) n2 = Constant<value = int64 {{2}}>() h = Gather<axis=0>(s2, n2)
    s3 = Shape(x) n3 = Constant<value = int64 {{3}}>() w = Gather<axis=0>(s3, n3)
    hw = Mul(h, w)
    four = Constant<value = int64 {{4}}>() all = Mul(hw, four)
    ud = Unsqueeze<axes=[0]>(d) ua = Unsqueeze<axes=[0]>(all)
    two = Constant<value = int64[1] {{2}}>()
    target = Concat<axis=0>(ud, ua, two)
    y = Reshape(t, target) }}"""


def test_detector_chain_folds(tmp_path: Path) -> None:
    proto = parse(DETECTOR.format(batch=1), opset=9)
    imported = load_onnx(save(proto, tmp_path))
    graph = imported.model.graph
    assert [node.op_type for node in graph] == ["Transpose", "Reshape"]
    target = constant(graph[1].inputs[1])
    assert target is not None
    assert target.tolist() == [1, 80, 2]
    assert set(graph.initializers) == {"target"}
    assert imported.signature.outputs[0].shape == (1, 80, 2)
    feeds = random_feeds(proto)
    assert same(run(proto, feeds), run(imported.model, feeds))


def test_known_dimensions_fold_beside_an_unknown_one(tmp_path: Path) -> None:
    proto = parse(DETECTOR.format(batch="N"), opset=9)
    imported = load_onnx(save(proto, tmp_path))
    graph = imported.model.graph
    assert [node.op_type for node in graph] == ["Transpose", "Reshape"]
    target = constant(graph[1].inputs[1])
    assert target is not None
    assert target.tolist() == [-1, 80, 2]
    feeds = {"x": np.random.default_rng(0).standard_normal((3, 8, 4, 5)).astype(np.float32)}
    assert same(run(proto, feeds), run(imported.model, feeds))


def test_chain_of_chains(tmp_path: Path) -> None:
    """Each Reshape is only known once the one before is."""
    steps = "\n".join(
        f"""s{i} = Shape(v{i}) g{i} = Gather(s{i}, one) u{i} = Unsqueeze(g{i}, ax)
        t{i} = Concat<axis=0>(m1, u{i}) v{i + 1} = Reshape(v{i}, t{i})"""
        for i in range(4)
    )
    proto = parse(
        f"""g (float[4,6] v0) => (float[P,Q] v4)
        <int64 one = {{1}}, int64[1] ax = {{0}}, int64[1] m1 = {{-1}}> {{ {steps} }}"""
    )
    imported = load_onnx(save(proto, tmp_path))
    assert {node.op_type for node in imported.model.graph} == {"Reshape"}
    assert imported.signature.outputs[0].shape == (4, 6)


FOLDED = {
    "Add": ("a = Shape(x) b = Add(a, k)", [3, 4]),
    "Sub": ("a = Shape(x) b = Sub(a, k)", [1, 2]),
    "Div": ("m = Neg(k) a = Shape(x) s = Sub(m, a) b = Div(s, two)", [-1, -2]),
    "Min": ("a = Shape(x) b = Min(a, two)", [2, 2]),
    "Max": ("a = Shape(x) b = Max(a, two)", [2, 3]),
    "Slice": ("a = Shape(x) c = Slice(a, m1, big, zero, m1) b = Concat<axis=0>(c, k)", None),
    "Slice-reversed": ("a = Shape(x) b = Slice(a, m1, low, zero, m1)", [3, 2]),
    "Where": ("a = Shape(x) e = Equal(a, two) b = Where(e, k, a)", [1, 3]),
    "Range": (
        "n = Size(x) s = Cast<to=7>(n) z = Squeeze(zero) o = Squeeze(k1) b = Range(z, s, o)",
        [0, 1, 2, 3, 4, 5],
    ),
    "Expand": ("b = Expand(two, k2)", [2, 2]),
    "ConstantOfShape": ("b = ConstantOfShape<value = int64[1] {7}>(k2)", [7, 7]),
    "ReduceProd": ("a = Shape(x) b = ReduceProd(a)", [6]),
    "Reshape": ("a = Shape(x) c = Reshape(a, r) b = Squeeze(c)", [2, 3]),
    "Identity": ("a = Shape(x) b = Identity(a)", [2, 3]),
    "Shape-range": ("b = Shape<start=-1>(x)", [3]),
    "Cast": (
        "a = Shape(x) f = Cast<to=1>(a) h = Mul(f, half) c = Floor(h) b = Cast<to=7>(c)",
        [1, 1],
    ),
}


@pytest.mark.parametrize("case", FOLDED)
def test_folded_value_is_what_the_runtime_computes(case: str, tmp_path: Path) -> None:
    body, expected = FOLDED[case]
    proto = parse(
        f"""g (float[2,3] x) => (int64[L] c0, float[2,3] y)
        <int64[1] k = {{1}}, int64[1] k1 = {{1}}, int64[1] k2 = {{2}}, int64[1] two = {{2}},
         int64[1] zero = {{0}}, int64[1] m1 = {{-1}}, int64[1] big = {{9}}, int64[1] low = {{-9}},
         int64[2] r = {{0, -1}}, float half = {{0.5}}>
        {{ {body} c0 = Concat<axis=0>(b, k) y = Relu(x) }}"""
    )
    imported = load_onnx(save(proto, tmp_path))
    feeds = random_feeds(proto)
    before = run(proto, feeds)
    assert same(before, run(imported.model, feeds))
    if expected is not None:
        assert [node.op_type for node in imported.model.graph] == ["Concat", "Relu"]
        folded = constant(imported.model.graph[0].inputs[0])
        assert folded is not None
        assert folded.tolist() == expected


def test_large_constants_are_left_alone(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2] x) => (float[2000] y) <int64[1] n = {2000}>
        { c = ConstantOfShape(n) s = ReduceSum<keepdims=1>(x) y = Add(c, s) }"""
    )
    graph = load_onnx(save(proto, tmp_path)).model.graph
    assert graph[0].op_type == "ConstantOfShape"


def test_failure_names_the_node_and_the_rest_goes_on(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2,3] x, float[4,4] z) => (float[2,3] good, float[P,Q] bad) {
        [fine] good = Relu(x) [broken] m = MatMul(x, z) [behind] bad = Relu(m) }"""
    )
    imported = load_onnx(save(proto, tmp_path))
    assert "Incompatible dimensions" in imported.float_nodes["broken"]
    assert "fine" not in imported.float_nodes
    warning = next(note for note in imported.notes if note.level == "warning")
    assert warning.node == "broken"


def test_nodes_behind_an_unknown_type_say_so(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2,4] x) => (float[2,4] y)
        { [mystery] a = com.microsoft.Inverse(x) [relu] b = Relu(a) [last] y = Neg(b) }""",
        extra='"com.microsoft" : 1',
    )
    imported = load_onnx(save(proto, tmp_path))
    assert "behind node mystery" in imported.float_nodes["relu"]


def test_contributed_operators_that_keep_the_shape(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2,4] x) => (float[2,4] y)
        { a = com.microsoft.FastGelu(x) b = Relu(a) y = Neg(b) }""",
        extra='"com.microsoft" : 1',
    )
    graph = load_onnx(save(proto, tmp_path)).model.graph
    assert static_shape(graph[1].outputs[0]) == (2, 4)


def test_wrong_declared_shapes_are_dropped(tmp_path: Path) -> None:
    proto = parse("g (float[2,3] x) => (float[5,5] y) { a = Relu(x) y = Neg(a) }")
    info = onnx.helper.make_tensor_value_info("a", 1, [7, 7])
    proto.graph.value_info.append(info)
    imported = load_onnx(save(proto, tmp_path))
    assert imported.float_nodes == {}
    assert static_shape(imported.model.graph[0].outputs[0]) == (2, 3)
    assert imported.signature.outputs[0].shape == (2, 3)
    assert any("contradict" in note.message for note in imported.notes)


def test_rank_of_a_computed_reshape(tmp_path: Path) -> None:
    proto = parse(
        """g (float[N,6] x, int64[3] s) => (float[A,B,C] y) { r = Reshape(x, s) y = Relu(r) }"""
    )
    del proto.graph.value_info[:]
    shape = load_onnx(save(proto, tmp_path)).model.graph[0].outputs[0].shape
    assert shape is not None
    assert len(shape) == 3


def test_subgraphs_are_kept_and_left_float(tmp_path: Path) -> None:
    proto = parse(
        """g (bool c, float[2] x) => (float[2] y) { [pick] p = If (c) <
            then_branch = t () => (float[2] r) { r = Relu(x) },
            else_branch = e () => (float[2] s) { s = Abs(x) }> [end] y = Neg(p) }"""
    )
    imported = load_onnx(save(proto, tmp_path))
    assert list(imported.float_nodes) == ["pick"]
    for choice in (True, False):
        feeds = {"x": random_feeds(proto)["x"], "c": np.asarray(choice)}
        assert same(run(proto, feeds), run(imported.model, feeds))


def test_loop_keeps_its_body(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2] x) => (float[2] y) <int64 n = {3}, bool go = {1}> {
        [loop] y = Loop (n, go, x) <body = b (int64 i, bool c, float[2] v) => (bool d, float[2] w)
            { d = Identity(c) w = Add(v, v) }> }"""
    )
    imported = load_onnx(save(proto, tmp_path))
    assert list(imported.float_nodes) == ["loop"]
    feeds = random_feeds(proto)
    assert same(run(proto, feeds), run(imported.model, feeds))
