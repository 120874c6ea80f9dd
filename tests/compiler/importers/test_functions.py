"""Model-local functions: inlined, whatever opset they were written for."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import sources
from tests.compiler.importers.build import parse, random_feeds, run, same, save

CALLS = """g (float[2,3] x) => (float[2,1] y) {
    [first] a = lib.Scale<factor: float = 2.0>(x)
    [second] b = lib.Scale(a)
    [sum] y = lib.Rows(b) }"""
FUNCTIONS = """
<domain: "lib", opset_import: ["" : {opset}]>
Scale <factor: float = 0.5> (v) => (w)
{{ f = Constant<value_float: float = @factor>() w = Mul(v, f) }}
<domain: "lib", opset_import: ["" : {opset}]>
Rows (v) => (w) {{ w = {reduce} }}
"""


def model(opset: int) -> onnx.ModelProto:
    reduce = "ReduceMax<axes=[1]>(v)" if opset < 18 else "ReduceMax(v, a)"
    functions = FUNCTIONS.format(opset=opset, reduce=reduce)
    if opset >= 18:
        functions = functions.replace("{ w = R", "{ a = Constant<value_ints=[1]>() w = R")
    return parse(CALLS, extra='"lib" : 1', functions=functions)


@pytest.mark.parametrize("opset", [21, 17])
def test_bodies_take_the_place_of_calls(opset: int, tmp_path: Path) -> None:
    proto = model(opset)
    imported = load_onnx(save(proto, tmp_path))
    graph = imported.model.graph
    assert not imported.model.functions
    assert [node.op_type for node in graph] == ["Mul", "Mul", "ReduceMax"]
    assert [sources(node) for node in graph] == [("first",), ("second",), ("sum",)]
    assert imported.model.opset_imports == {"": 21}
    x = random_feeds(proto)["x"]
    (y,) = run(imported.model, {"x": x})
    assert np.array_equal(y, x.max(axis=1, keepdims=True))
    if opset == 21:
        assert same(run(proto, {"x": x}), [y])


def test_functions_that_call_each_other(tmp_path: Path) -> None:
    proto = parse(
        "g (float[2] x) => (float[2] y) { y = lib.A(x) }",
        extra='"lib" : 1',
        functions="""
<domain: "lib", opset_import: ["" : 21, "lib" : 1]> A (v) => (w) { w = lib.B(v) }
<domain: "lib", opset_import: ["" : 21, "lib" : 1]> B (v) => (w) { w = lib.A(v) }""",
    )
    with pytest.raises(QCompileError, match="lib::") as caught:
        load_onnx(save(proto, tmp_path))
    assert caught.value.code is Code.MODEL_CYCLIC


def test_call_with_too_many_inputs(tmp_path: Path) -> None:
    proto = parse(
        "g (float[2] x) => (float[2] y) { y = lib.A(x, x) }",
        extra='"lib" : 1',
        functions='<domain: "lib", opset_import: ["" : 21]> A (v) => (w) { w = Relu(v) }',
    )
    with pytest.raises(QCompileError, match="inlined") as caught:
        load_onnx(save(proto, tmp_path))
    assert caught.value.code is Code.MODEL_INVALID


def test_unknown_operator_in_a_body(tmp_path: Path) -> None:
    proto = parse(
        "g (float[2] x) => (float[2] y) { y = lib.A(x) }",
        extra='"lib" : 1',
        functions='<domain: "lib", opset_import: ["" : 21]> A (v) => (w) { [n] w = Magic(v) }',
    )
    with pytest.raises(QCompileError, match="Magic") as caught:
        load_onnx(save(proto, tmp_path))
    assert caught.value.code is Code.UNKNOWN_OP
