"""Names: unique, never empty, the user's own where they are unique, the same every time."""

from pathlib import Path

import onnx
import onnx_ir as ir

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.tensors import graphs_of
from qcompile.compiler.runner import find_fault
from qcompile.core.graph import sources
from tests.compiler.importers.build import parse, save


def load(proto: onnx.ModelProto, folder: Path) -> ir.Model:
    model = load_onnx(save(proto, folder)).model
    assert find_fault(model) is None
    return model


def test_unique_names_stay(tmp_path: Path) -> None:
    model = load(
        parse("g (float[2] x) => (float[2] y) { [a] m = Relu(x) [b] y = Neg(m) }"), tmp_path
    )
    assert [node.name for node in model.graph] == ["a", "b"]
    assert [node.outputs[0].name for node in model.graph] == ["m", "y"]
    assert [sources(node) for node in model.graph] == [("a",), ("b",)]


def test_repeated_node_names_are_numbered(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y) { [n] a = Relu(x) [n] b = Neg(a) [n_1] y = Abs(b) }"
    model = load(parse(text), tmp_path)
    assert [node.name for node in model.graph] == ["n", "n_2", "n_1"]
    assert [sources(node) for node in model.graph] == [("n",), ("n",), ("n_1",)]


def test_nameless_nodes_are_called_by_their_operator(tmp_path: Path) -> None:
    text = "g (float[2] x) => (float[2] y) { a = Relu(x) b = Relu(a) y = Relu(b) }"
    model = load(parse(text), tmp_path)
    assert [node.name for node in model.graph] == ["Relu", "Relu_1", "Relu_2"]
    assert sources(model.graph[0]) == ("Relu(a)",)


def test_line_breaks_do_not_survive(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [n] m = Relu(x) y = Neg(m) }")
    proto.graph.node[0].name = "two\nlines"
    proto.graph.node[0].output[0] = proto.graph.node[1].input[0] = "v\nw"
    model = load(proto, tmp_path)
    assert model.graph[0].name == "two lines"
    assert model.graph[0].outputs[0].name == "v w"
    assert sources(model.graph[0]) == ("two lines",)


def test_branches_may_use_the_same_names(tmp_path: Path) -> None:
    proto = parse(
        """g (bool c, float[2] x) => (float[2] y) { y = If (c) <
            then_branch = t () => (float[2] r) { [n] m = Relu(x) [k] r = Neg(m) },
            else_branch = e () => (float[2] r) { [n] m = Abs(x) [k] r = Exp(m) }> }"""
    )
    model = load(proto, tmp_path)
    names = [node.name for graph in graphs_of(model) for node in graph]
    assert names == ["If", "n", "k", "n_1", "k_1"]


def test_ends_keep_their_names(tmp_path: Path) -> None:
    """An inner value that shadows an output gives way."""
    proto = parse(
        """g (bool c, float[2] x) => (float[2] y) { z = If (c) <
            then_branch = t () => (float[2] y) { y = Relu(x) },
            else_branch = e () => (float[2] y) { y = Abs(x) }> y = Neg(z) }"""
    )
    model = load(proto, tmp_path)
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_names_are_the_same_every_time(tmp_path: Path) -> None:
    text = """g (float[2,3,4] x) => (float[2,3,4] y, float[2,3,4] z)
        { a = Softmax(x) y = Clip<min=0.0, max=0.5>(a) z = Softmax<axis=0>(y) }"""

    def names() -> list[str | None]:
        model = load(parse(text, opset=9), tmp_path)
        values = [*model.graph.initializers.values()]
        values += [output for node in model.graph for output in node.outputs]
        return [value.name for value in values] + [node.name for node in model.graph]

    assert names() == names()
    assert all(names())
