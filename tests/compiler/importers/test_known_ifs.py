"""An If whose condition is known makes room for the branch that runs; others stay as they are."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from tests.compiler.importers.build import parse, save

RANK = """g (float["N", 4] x, float[1] k) => ({outputs}) {{
    s = Shape (x)  i = Constant <value = int64 {{{axis}}}> ()  d = Gather (s, i)
    two = Constant <value = int64 {{2}}> ()  c = Equal (d, two)
    {body}
}}"""
TWO = """y = If (c) <
        then_branch = a () => (float[A, B] t) {{ u = Relu (x)  t = Mul (u, {k}) }},
        else_branch = b () => (float[A, B] e) {{ e = Neg (x) }}
    >"""


def text(body: str = TWO, outputs: str = "float[A, B] y", axis: int = 0) -> onnx.ModelProto:
    body = body.replace("{k}", "k").replace("{{", "{").replace("}}", "}")
    return parse(RANK.format(outputs=outputs, axis=axis, body=body))


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def same(proto: onnx.ModelProto, model: ir.Model) -> None:
    feeds = {
        "x": np.random.default_rng(0).normal(size=(2, 4)).astype(np.float32),
        "k": np.array([3], np.float32),
    }
    results = []
    for one in (proto, ir.to_proto(model)):
        onnx.checker.check_model(one, full_check=True)
        session = ort.InferenceSession(one.SerializeToString())
        named = {i.name: feeds[i.name] for i in session.get_inputs()}
        results.append((session.run(None, named), [o.name for o in session.get_outputs()]))
    assert results[0][1] == results[1][1]
    for a, b in zip(results[0][0], results[1][0], strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize(("rows", "expected"), [(2, ["Relu", "Mul"]), (3, ["Neg"])])
def test_a_fixed_shape_decides(rows: int, expected: list[str], tmp_path: Path) -> None:
    found = load_onnx(save(text(), tmp_path), {"x": (rows, 4)})
    assert ops(found.model) == expected
    assert any("1 If whose condition is known" in str(note) for note in found.notes)
    if rows == 2:
        same(text(), found.model)


def test_an_open_shape_does_not(tmp_path: Path) -> None:
    found = load_onnx(save(text(), tmp_path))
    assert "If" in ops(found.model)
    (name,) = [n.name for n in found.model.graph if n.op_type == "If"]
    assert "subgraph" in found.float_nodes[name]


def test_nested_ones(tmp_path: Path) -> None:
    inner = (
        TWO.replace("y = If", "z = If")
        .replace("then_branch = a", "then_branch = p")
        .replace("else_branch = b", "else_branch = q")
    )
    body = f"""y = If (c) <
        then_branch = o () => (float[A, B] w) {{ {inner}  w = Tanh (z) }},
        else_branch = n () => (float[A, B] v) {{ v = Abs (x) }}
    >"""
    proto = text(body)
    found = load_onnx(save(proto, tmp_path), {"x": (2, 4)})
    assert ops(found.model) == ["Relu", "Mul", "Tanh"]
    same(proto, found.model)


def test_a_branch_that_hands_on_what_it_did_not_make(tmp_path: Path) -> None:
    body = """r = Relu (x)
    y, z = If (c) <
        then_branch = a () => (float[A, B] t, float[A, B] t2) {
            t = Identity (r) t2 = Identity (r)
        },
        else_branch = b () => (float[A, B] e, float[A, B] e2) { e = Neg (x) e2 = Abs (x) }
    >"""
    proto = text(body, "float[A, B] y, float[A, B] z, float[A, B] r")
    found = load_onnx(save(proto, tmp_path), {"x": (2, 4)})
    assert "If" not in ops(found.model)
    same(proto, found.model)


def test_what_the_other_branch_read_can_go(tmp_path: Path) -> None:
    body = "q = Exp (x) " + TWO.replace("Neg (x)", "Neg (q)")
    found = load_onnx(save(text(body), tmp_path), {"x": (2, 4)})
    (exp,) = [node for node in found.model.graph if node.op_type == "Exp"]
    assert not exp.outputs[0].uses()
