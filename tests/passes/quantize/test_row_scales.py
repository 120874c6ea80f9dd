"""Dynamic activations are rounded row by row, for readers whose rows are rows."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.quantize.row_scales import RowScales
from tests.passes.planning import session
from tests.passes.prepare.checking import parse, rand

DYNAMIC = "q, s, z = DynamicQuantizeLinear (x) d = DequantizeLinear (q, s, z) "
HEAD = "g (float[2, 3, 8] x) => (float[] y) "


def model(body: str, head: str = HEAD, **constants: np.ndarray) -> ir.Model:
    return parse(f"{head} {{ {DYNAMIC} {body} }}", {"w": rand(8, 4), **constants})


def ops(of: ir.Model) -> set[str]:
    return {node.op_type for node in of.graph}


def by_rows(x: np.ndarray) -> np.ndarray:
    """The formula of the pass, in float32."""
    low = np.minimum(x.min(-1, keepdims=True), 0)
    scale = np.maximum((np.maximum(x.max(-1, keepdims=True), 0) - low) / np.float32(255), 2.0**-100)
    scale = scale.astype(np.float32)
    zero = np.rint(-low / scale)
    return (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale


def test_each_row_has_its_own_scale() -> None:
    made = model("y = MatMul (d, w)")
    assert RowScales()(made).modified
    assert not {"DynamicQuantizeLinear", "DequantizeLinear"} & ops(made)
    x = rand(2, 3, 8, seed=3)
    x[0, 0] *= 1000
    x[0, 1] = np.abs(x[0, 1])
    x[1, 2] = 0
    (got,) = session(made).run({"x": x})
    assert np.abs(got - by_rows(x) @ made.graph.initializers["w"].const_value.numpy()).max() < 1e-3
    small = got[1] - x[1] @ made.graph.initializers["w"].const_value.numpy()
    assert np.abs(small).max() < 0.1, "one scale for all would leave nothing of it"


def test_a_second_run_changes_nothing() -> None:
    made = model("y = MatMul (d, w)")
    RowScales()(made)
    assert not RowScales()(made).modified


def test_several_layers_share_their_constants() -> None:
    made = model(
        """a = MatMul (d, w) p, t, u = DynamicQuantizeLinear (a)
           e = DequantizeLinear (p, t, u) y = MatMul (e, v)""",
        v=rand(4, 5),
    )
    assert RowScales()(made).modified
    assert len([name for name in made.graph.initializers if "row_scales" in name]) == 5
    session(made).run({"x": rand(2, 3, 8)})


@pytest.mark.parametrize(
    "body",
    [
        "r = Relu (d) y = MatMul (r, w)",
        "a = MatMul (d, w) f = Cast <to = 1> (q) b = MatMul (f, w) y = Add (a, b)",
        "a = MatMul (d, w) b = MatMul (d, w) c = Relu (d) y = MatMul (c, w)",
    ],
    ids=["read by another op", "integers that are read", "one reader of another kind"],
)
def test_what_is_left_alone(body: str) -> None:
    made = model(body)
    assert not RowScales()(made).modified
    assert "DynamicQuantizeLinear" in ops(made)


def test_a_transposed_operand_has_no_rows() -> None:
    made = model("y = Gemm <transA = 1> (d, w)", "g (float[8, 3] x) => (float[] y)")
    assert not RowScales()(made).modified
