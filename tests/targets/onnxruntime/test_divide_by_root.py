"""x * Reciprocal(Sqrt(v)) as a division, so that ONNX Runtime sees a normalization."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.divide_by_root import DivideByRoot
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.prove import optimized_graph
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

CONSTANTS = {
    "two": np.float32(2), "eps": np.float32(1e-5), "gain": rand(8), "last": np.asarray([-1]),
}  # fmt: skip


def norm(product: str = "n = Mul (x, r)", root: str = "r = Reciprocal (s)") -> ir.Model:
    return parse(
        f"""g (float[n, 3, 8] x) => (float[n, 3, 8] y) {{
            p = Pow (x, two)
            m = ReduceMean <keepdims = 1> (p, last)
            a = Add (m, eps)
            s = Sqrt (a)
            {root}
            {product}
            y = Mul (n, gain)
        }}""",
        CONSTANTS,
    )


@pytest.mark.parametrize("product", ["n = Mul (x, r)", "n = Mul (r, x)"])
def test_one_kernel_does_the_norm(product: str) -> None:
    model = changed(DivideByRoot(), norm(product))
    assert ops(model) == ["Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    artefact = lower(norm(product), load_target("ort-x86-vnni"))
    assert [n.op_type for n in optimized_graph(artefact).node] == ["SimplifiedLayerNormalization"]


@pytest.mark.parametrize(
    ("product", "root"),
    [
        ("n = Mul (x, r)", "r = Reciprocal (a)"),
        ("o = Mul (x, r) n = Mul (o, r)", "r = Reciprocal (s)"),
        ("n = Add (x, r)", "r = Reciprocal (s)"),
        ("n = Mul (r, r)", "r = Reciprocal (s)"),
    ],
)
def test_what_stays(product: str, root: str) -> None:
    unchanged(DivideByRoot(), norm(product, root))
