"""Questions asked of a graph, names that stay unique, and what a fingerprint depends on."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core import graph as g
from tests.passes.prepare.checking import parse, rand

BRANCHES = """
g (float[4] x, bool c) => (float[4] y, float[4] s) {
    s = Neg (x)
    a = Abs (x)
    y = If (c) <then_branch = t () => (float[4] t0) { t0 = Relu (a) },
                else_branch = e () => (float[4] e0) { e0 = Neg (k) }>
}
"""


def value(model: ir.Model, name: str) -> ir.Value:
    return next(v for v in g.values(model.graph) if v.name == name)


def test_a_reader_in_a_subgraph_is_no_consumer():
    model = parse(BRANCHES, {"k": rand(4)})
    assert g.only_consumer(value(model, "a")) is None
    assert g.only_consumer(value(model, "k")) is None


def test_the_only_consumer():
    text = """g (float[4] x) => (float[4] y, float[4] o) {
        a = Neg (x)
        b = Neg (a)
        y = Mul (b, b)
        o = Abs (b)
        p = Neg (o)
    }"""
    model = parse(text)
    consumer = g.only_consumer(value(model, "a"))
    assert consumer is not None and consumer.outputs[0].name == "b"
    assert g.only_consumer(value(model, "b")) is None  # read three times, twice by one node
    assert g.only_consumer(value(model, "o")) is None  # an output of the graph
    assert g.only_consumer(value(model, "p")) is None  # read by nobody


def test_constants():
    text = """g (float[4] x, float[4] given) => (float[4] y) {
        k = Constant <value_float = 2.0> ()
        a = Mul (x, w)
        b = Mul (a, given)
        y = Mul (b, k)
    }"""
    model = parse(text, {"w": rand(4), "given": rand(4)})
    assert np.array_equal(g.constant(value(model, "w")), rand(4))
    assert g.constant(value(model, "given")) is None  # the caller may override it
    assert g.constant(value(model, "x")) is None
    assert g.constant(None) is None
    assert g.scalar(value(model, "w")) is None


def test_attributes_and_their_defaults():
    node = ir.node("Conv", [], {"group": 2, "pads": [1, 0], "auto_pad": "VALID", "f": 0.5})
    assert (g.attribute_int(node, "group", 1), g.attribute_int(node, "no", 7)) == (2, 7)
    assert (g.attribute_ints(node, "pads"), g.attribute_ints(node, "no", [3])) == ((1, 0), (3,))
    assert (g.attribute_str(node, "auto_pad", ""), g.attribute_str(node, "no", "x")) == (
        "VALID",
        "x",
    )
    assert (g.attribute_float(node, "f", 0.0), g.attribute_float(node, "no", 2.0)) == (0.5, 2.0)


def test_shapes():
    model = parse("g (float[N, 4] x) => (float[N, 4] y) { y = Neg (x) }")
    assert g.static_shape(value(model, "x")) is None
    assert g.rank(value(model, "x")) == 2
    assert g.rank(ir.Value(name="v")) is None
    assert g.static_shape(ir.Value(name="v", shape=ir.Shape([2, 3]))) == (2, 3)


def test_names_are_unique_in_subgraphs_too_and_in_clones():
    model = parse(BRANCHES, {"k": rand(4)})
    assert g.unique_name(model.graph, "fresh") == "fresh"
    assert g.unique_name(model.graph, "fresh") == "fresh_1"
    assert g.unique_name(model.graph, "t0") == "t0_1"
    clone = model.clone()
    assert g.unique_name(clone.graph, "fresh") == "fresh"
    assert g.unique_name(model.graph, "fresh") == "fresh_2"
    node = next(iter(model.graph)).name
    assert g.unique_node_name(model.graph, node) == f"{node}_1"


def test_sources_are_inherited_once_each():
    a, b = ir.node("Neg", [], name="a"), ir.node("Abs", [], name="b")
    g.inherit(b, "Pass", a, b)
    assert g.sources(b) == ("a", "b")
    c = g.inherit(ir.node("Relu", [], name="c"), "Other", b, a)
    assert g.sources(c) == ("a", "b")
    assert c.metadata_props[g.PASS_KEY] == "Other"
    made = g.inherit(ir.node("Relu", [], name="d"), "Third")
    assert g.sources(made) == ("d",)


def net(**changes: str) -> ir.Model:
    parts = {"op": "Relu", "attribute": "alpha = 0.5", "input": "a", "kind": "float[4]", **changes}
    text = f"""g ({parts["kind"]} x, bool c) => (float[4] y) {{
        a = LeakyRelu<{parts["attribute"]}> (x)
        b = Mul (a, w)
        y = If (c) <then_branch = t () => (float[4] t0) {{ t0 = {parts["op"]} ({parts["input"]}) }},
                    else_branch = e () => (float[4] e0) {{ e0 = Identity (b) }}>
    }}"""
    return parse(text, {"w": np.arange(4, dtype=np.float32)})


@pytest.mark.parametrize(
    "change",
    [{"op": "Neg"}, {"attribute": "alpha = 0.25"}, {"input": "b"}, {"kind": "float[N]"}],
)
def test_the_fingerprint_sees_every_part_of_the_function(change):
    assert g.fingerprint(net()) == g.fingerprint(net())
    assert g.fingerprint(net(**change)) != g.fingerprint(net())


def test_the_fingerprint_sees_constants_their_types_and_shapes():
    def one(array: np.ndarray, name: str = "w") -> str:
        model = parse("g (float[4] x) => (float[4] y) { y = Neg (x) }", {name: array})
        return g.fingerprint(model)

    zeros = np.zeros(4, np.float32)
    prints = [
        one(zeros),
        one(zeros, "v"),
        one(zeros.reshape(2, 2)),
        one(zeros.view(np.int32)),
        one(zeros + 1),
    ]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_sees_tensors_in_attributes():
    def one(array: np.ndarray) -> str:
        node = ir.node("Custom", [], {"value": ir.tensor(array)}, domain="d")
        return g.fingerprint(ir.Model(ir.Graph([], [], nodes=[node], name="g"), ir_version=10))

    zeros = np.zeros(4, np.float32)
    prints = [one(zeros), one(zeros.reshape(2, 2)), one(zeros.view(np.int32)), one(zeros + 1)]
    assert len(set(prints)) == len(prints)


def test_the_fingerprint_is_blind_to_notes_and_storage(tmp_path):
    model = net()
    before = g.fingerprint(model)
    model.doc_string = "said"
    for node in model.graph:
        node.doc_string = "said"
        node.metadata_props["key"] = "value"
    assert g.fingerprint(model) == before
    ir.save(model, tmp_path / "m.onnx", external_data="m.data", size_threshold_bytes=0)
    assert g.fingerprint(ir.load(tmp_path / "m.onnx")) == before
