"""Graphs that are none: each fault has its code and names the node or value."""

from pathlib import Path

import onnx
import pytest

from qcompile.compiler.importers import onnx as importer
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.build import parse, random_feeds, run, same, save


def refusal(proto: onnx.ModelProto, folder: Path) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(proto, folder))
    return caught.value


def test_cycle_names_a_node_on_it(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2] x) => (float[2] y) {
            [first] a = Relu(x) [in_1] b = Add(a, d) [in_2] c = Neg(b) [in_3] d = Abs(c)
            [behind] y = Relu(d) }"""
    )
    error = refusal(proto, tmp_path)
    assert error.code is Code.MODEL_CYCLIC
    assert error.node in ("in_1", "in_2", "in_3")
    assert "in_1 -> in_2" in error.message or "in_2 -> in_3" in error.message
    assert "behind" not in error.message


def test_node_that_feeds_itself(tmp_path: Path) -> None:
    error = refusal(parse("g (float[2] x) => (float[2] y) { [n] y = Add(x, y) }"), tmp_path)
    assert (error.code, error.node) == (Code.MODEL_CYCLIC, "n")


def test_cycle_through_a_subgraph(tmp_path: Path) -> None:
    proto = parse(
        """g (bool c, float[2] x) => (float[2] y) {
            [pick] y = If (c) <then_branch = t () => (float[2] a) { a = Neg(z) },
                               else_branch = e () => (float[2] b) { b = Identity(x) }>
            [loop] z = Relu(y) }"""
    )
    error = refusal(proto, tmp_path)
    assert error.code is Code.MODEL_CYCLIC
    assert error.node in ("pick", "loop")


def test_out_of_order_is_sorted(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = Relu(b) b = Neg(a) a = Abs(x) }")
    model = load_onnx(save(proto, tmp_path)).model
    assert [node.op_type for node in model.graph] == ["Abs", "Neg", "Relu"]


def test_long_chain_in_reverse_takes_no_time(tmp_path: Path) -> None:
    steps = 3000
    chain = " ".join(f"v{i + 1} = Relu(v{i})" for i in reversed(range(steps)))
    proto = parse(f"g (float[1] v0) => (float[1] v{steps}) {{ {chain} }}")
    assert len(load_onnx(save(proto, tmp_path)).model.graph) == steps


def test_input_that_nothing_produces(tmp_path: Path) -> None:
    error = refusal(parse("g (float[2] x) => (float[2] y) { [n] y = Add(x, ghost) }"), tmp_path)
    assert (error.code, error.node) == (Code.MODEL_INVALID, "n")
    assert "ghost" in error.message


def test_output_that_nothing_produces(tmp_path: Path) -> None:
    error = refusal(parse("g (float[2] x) => (float[2] ghost) { y = Relu(x) }"), tmp_path)
    assert error.code is Code.MODEL_INVALID
    assert "ghost" in error.message


def test_value_produced_twice(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [a] y = Relu(x) [b] y = Neg(x) }")
    error = refusal(proto, tmp_path)
    assert error.code is Code.MODEL_INVALID
    assert "a and b" in error.message


def test_input_produced_again(tmp_path: Path) -> None:
    error = refusal(parse("g (float[2] x) => (float[2] x) { [a] x = Relu(x) }"), tmp_path)
    assert (error.code, error.node) == (Code.MODEL_INVALID, "a")


@pytest.mark.parametrize("what", ["input", "initializer"])
def test_duplicate_ends(what: str, tmp_path: Path) -> None:
    proto = parse("g (float[1] x) => (float[1] y) <float[1] w = {1}> { y = Add(x, w) }")
    repeated = getattr(proto.graph, what)
    repeated.add().CopyFrom(repeated[0])
    error = refusal(proto, tmp_path)
    assert error.code is Code.MODEL_INVALID
    assert what in error.message


def test_no_output(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    del proto.graph.output[:]
    assert refusal(proto, tmp_path).code is Code.MODEL_INVALID


def test_opset_99_names_operator_and_node(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [n] y = Relu(x) }")
    proto.opset_import[0].version = 99
    error = refusal(proto, tmp_path)
    assert (error.code, error.node) == (Code.OPSET_UNSUPPORTED, "n")
    assert "99" in error.message


def test_opset_before_7(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [n] y = Relu(x) }")
    proto.opset_import[0].version = 6
    assert refusal(proto, tmp_path).code is Code.OPSET_UNSUPPORTED


def test_custom_operator(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [mine] y = acme.Magic(x) }", extra='"acme" : 1')
    error = refusal(proto, tmp_path)
    assert (error.code, error.node) == (Code.UNKNOWN_OP, "mine")
    assert "acme.Magic" in error.message


def test_custom_operator_inside_an_if(tmp_path: Path) -> None:
    proto = parse(
        """g (bool c, float[2] x) => (float[2] y) {
            y = If (c) <then_branch = t () => (float[2] a) { [deep] a = acme.Magic(x) },
                        else_branch = e () => (float[2] b) { b = Identity(x) }> }""",
        extra='"acme" : 1',
    )
    assert refusal(proto, tmp_path).node == "deep"


def test_operator_onnx_never_had(tmp_path: Path) -> None:
    error = refusal(parse("g (float[2] x) => (float[2] y) { [n] y = Magic(x) }"), tmp_path)
    assert (error.code, error.node) == (Code.UNKNOWN_OP, "n")


def test_operator_of_a_later_opset(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [n] y = Gelu(x) }", opset=17)
    error = refusal(proto, tmp_path)
    assert (error.code, error.node) == (Code.UNKNOWN_OP, "n")
    assert "opset 17" in error.message


def test_operator_removed_before_the_models_opset(tmp_path: Path) -> None:
    proto = parse(
        "g (float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y) { [n] y = Upsample(x, s) }",
        opset=13,
    )
    assert refusal(proto, tmp_path).code is Code.UNKNOWN_OP


def test_operator_of_the_runtime_stays_float(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2,4] x) => (float[2,4] y)
        { [gelu] a = com.microsoft.QuickGelu(x) [relu] y = Relu(a) }""",
        extra='"com.microsoft" : 1',
    )
    imported = load_onnx(save(proto, tmp_path))
    assert list(imported.float_nodes) == ["gelu"]
    assert "com.microsoft.QuickGelu" in imported.float_nodes["gelu"]
    feeds = random_feeds(proto)
    assert same(run(proto, feeds), run(imported.model, feeds))


def test_unknown_operator_of_the_runtimes_domain(tmp_path: Path) -> None:
    proto = parse(
        "g (float[2] x) => (float[2] y) { [n] y = com.microsoft.Magic(x) }",
        extra='"com.microsoft" : 1',
    )
    assert refusal(proto, tmp_path).code is Code.UNKNOWN_OP


def test_runtime_that_does_not_tell_decides_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "runtime_operators", lambda: None)
    proto = parse("g (float[2] x) => (float[2] y) { [n] y = acme.New(x) }", extra='"acme" : 1')
    assert list(load_onnx(save(proto, tmp_path)).float_nodes) == ["n"]


def test_weights_that_do_not_fit_their_shape(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    proto.graph.initializer[0].ClearField("float_data")
    proto.graph.initializer[0].raw_data = b"\0" * 7
    error = refusal(proto, tmp_path)
    assert error.code is Code.MODEL_INVALID
    assert "tensor w" in error.message


def test_model_without_float(tmp_path: Path) -> None:
    proto = parse("g (int64[2] x) => (int64[2] y) { y = Add(x, x) }")
    assert refusal(proto, tmp_path).code is Code.NOTHING_TO_QUANTIZE
    assert len(load_onnx(save(proto, tmp_path), allow_integer=True).model.graph) == 1


@pytest.mark.parametrize(
    "body",
    ["(float[2] x) => (int64[1] y) { y = ArgMax<axis=0>(x) }",
     "(float[2] x, float[2] z) => (bool[2] y) { y = Greater(x, z) }"],
)  # fmt: skip
def test_model_that_only_reads_floats(body: str, tmp_path: Path) -> None:
    assert len(load_onnx(save(parse(f"g {body}", opset=13), tmp_path)).model.graph) == 1


def test_model_without_nodes(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] x) { }")
    assert refusal(proto, tmp_path).code is Code.NOTHING_TO_QUANTIZE
