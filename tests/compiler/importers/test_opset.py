"""Models newer than the working opset: brought down where that keeps the function."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.opset import WORKING_IR_VERSION
from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import sources
from tests.compiler.importers.build import parse, random_feeds, run, same, save


@pytest.mark.parametrize("opset", [7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23])
def test_every_opset_arrives_at_21(opset: int, tmp_path: Path) -> None:
    weights = ", ".join(map(str, np.linspace(-1, 1, 108).round(3)))
    proto = parse(
        f"""g (float[1,3,8,8] x) => (float[1,4,4,4] y) <float[4,3,3,3] w = {{{weights}}}>
        {{ c = Conv<pads=[1,1,1,1]>(x, w) r = Relu(c)
          y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(r) }}""",
        opset=opset,
    )
    imported = load_onnx(save(proto, tmp_path))
    assert imported.model.opset_imports == {"": 21}
    assert imported.model.ir_version == WORKING_IR_VERSION
    assert len(imported.notes) == (opset != 21)
    feeds = random_feeds(proto)
    assert same(run(proto, feeds), run(imported.model, feeds))


@pytest.mark.parametrize(
    "text",
    [
        """g (float[1,2,8,16] q, float[1,2,8,16] k, float[1,2,8,16] v) => (float[1,2,8,16] y)
        { [n] y = Attention(q, k, v) }""",
        """g (float[1,8,64] q, float[1,8,32] k, float[1,8,32] v) => (float[1,8,64] y)
        { [n] y = Attention<is_causal=1, q_num_heads=4, kv_num_heads=2>(q, k, v) }""",
        """g (float[2,5,16] x, float[16] s) => (float[2,5,16] y)
        { [n] y = RMSNormalization<epsilon=0.001>(x, s) }""",
        """g (float[1,2,3,8] x, float[3,4] c, float[3,4] s) => (float[1,2,3,8] y)
        <int64[1,3] p = {0, 1, 2}> { [n] y = RotaryEmbedding(x, c, s, p) }""",
    ],
    ids=["Attention", "Attention-grouped", "RMSNormalization", "RotaryEmbedding"],
)
def test_newer_operators_become_their_function(text: str, tmp_path: Path) -> None:
    proto = parse(text, opset=23)
    imported = load_onnx(save(proto, tmp_path))
    assert {source for node in imported.model.graph for source in sources(node)} == {"n"}
    assert proto.graph.node[0].op_type not in {node.op_type for node in imported.model.graph}
    assert len(imported.model.graph) > 1
    assert imported.model.opset_imports == {"": 21}
    assert imported.float_nodes == {}
    feeds = random_feeds(proto)
    (before,), (after,) = run(proto, feeds), run(imported.model, feeds)
    assert np.abs(before - after).max() < 1e-5  # the fused kernel sums in another order


def test_a_default_that_came_later_is_dropped(tmp_path: Path) -> None:
    proto = parse(
        """g (float[4] x) => (float[4] y) <float s = {0.5}, uint8 z = {3}>
        { q = QuantizeLinear<precision=0>(x, s, z) y = DequantizeLinear(q, s, z) }""",
        opset=23,
    )
    imported = load_onnx(save(proto, tmp_path))
    assert "precision" not in imported.model.graph[0].attributes
    feeds = random_feeds(proto)
    assert same(run(proto, feeds), run(imported.model, feeds))


def test_what_came_later_is_refused(tmp_path: Path) -> None:
    proto = parse(
        """g (float[4] x) => (float[4] y) <float s = {0.5}, uint8 z = {3}>
        { [q] q = QuantizeLinear<precision=10>(x, s, z) y = DequantizeLinear(q, s, z) }""",
        opset=23,
    )
    with pytest.raises(QCompileError, match="precision") as caught:
        load_onnx(save(proto, tmp_path))
    assert (caught.value.code, caught.value.node) == (Code.OPSET_UNSUPPORTED, "q")


def test_newer_element_types_are_refused(tmp_path: Path) -> None:
    proto = parse(
        """g (float[4] x) => (float[4] y) { [a] a = Cast<to=25>(x) [b] y = Cast<to=1>(a) }""",
        opset=25,
    )
    with pytest.raises(QCompileError, match="UINT2") as caught:
        load_onnx(save(proto, tmp_path))
    assert (caught.value.code, caught.value.node) == (Code.OPSET_UNSUPPORTED, "a")


def test_operator_without_a_function_is_refused(tmp_path: Path) -> None:
    proto = parse(
        """g (float[1,4,2] p, float[1,2,2] u, int64[1] i) => (float[1,4,2] y)
        { [write] y = TensorScatter(p, u, i) }""",
        opset=24,
    )
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(proto, tmp_path))
    assert (caught.value.code, caught.value.node) == (Code.OPSET_UNSUPPORTED, "write")
    assert "TensorScatter" in caught.value.message


def test_ai_onnx_is_the_same_domain(tmp_path: Path) -> None:
    proto = parse(
        "g (float[2,3] x) => (float[2] y) { y = ReduceSum<axes=[1], keepdims=0>(x) }", opset=9
    )
    proto.opset_import[0].domain = "ai.onnx"
    proto.graph.node[0].domain = "ai.onnx"
    imported = load_onnx(save(proto, tmp_path))
    assert imported.model.opset_imports == {"": 21}
    assert len(imported.model.graph[0].inputs) == 2
    assert imported.float_nodes == {}


def test_domains_nobody_uses_are_dropped(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }", extra='"ai.onnx.ml" : 2')
    assert load_onnx(save(proto, tmp_path)).model.opset_imports == {"": 21}


def test_subgraphs_are_converted_too(tmp_path: Path) -> None:
    proto = parse(
        """g (bool c, float[2,3] x) => (float[2] y) {
            y = If (c) <
              then_branch = t () => (float[2] a) { a = ReduceMax<axes=[1], keepdims=0>(x) },
              else_branch = e () => (float[2] b) { b = ReduceSum<axes=[1], keepdims=0>(x) }> }""",
        opset=11,
    )
    imported = load_onnx(save(proto, tmp_path))
    for choice in (True, False):
        feeds = {"x": random_feeds(proto)["x"], "c": np.asarray(choice)}
        assert same(run(proto, feeds), run(imported.model, feeds))
