"""What subgraphs read moved stays float, since ONNX Runtime would abort the process over it."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from qcompile.passes.plan.captured import REASON, captured_nodes
from tests.compiler.small import built, saved, weights
from tests.passes.planning import session


def model(first: str, second: str = "u = Exp (m)") -> onnx.ModelProto:
    """A convolution whose result one If reads, which ONNX Runtime inlines, and then another."""
    proto = onnx.parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[1, 3, 6, 6] x, bool c) => (float[] y) {{
            a = Conv (x, w)
            r = Relu (a)
            s = Transpose <perm = [0, 2, 3, 1]> (r)
            m = If (always) <
                then_branch = moved () => (float[] p) {{ {first} }},
                else_branch = whole () => (float[] o) {{ o = Neg (s) }}
            >
            y = If (c) <
                then_branch = yes () => (float[] u) {{ {second} }},
                else_branch = no () => (float[] v) {{ v = Neg (m) }}
            >
        }}""")
    proto.graph.initializer.extend(
        [
            numpy_helper.from_array(weights(1, 4, 3, 3, 3), "w"),
            numpy_helper.from_array(np.asarray([0], np.int64), "axes"),
            numpy_helper.from_array(np.asarray(True), "always"),
        ]
    )
    for number, node in enumerate(proto.graph.node):
        node.name = f"{node.op_type}_{number}"
    return onnx.shape_inference.infer_shapes(proto)


CASES = {"r": "p = Squeeze (r, axes)", "s": "p = Squeeze (s, axes)"}
FLOAT = {"r": {"Relu_1"}, "s": {"Relu_1", "Transpose_2"}}


@pytest.mark.parametrize("case", CASES)
def test_what_must_stay_float(case: str) -> None:
    graph = ir.from_proto(model(CASES[case])).graph
    assert captured_nodes(graph) == dict.fromkeys(FLOAT[case], REASON)


def test_what_is_not_moved_inside_may_be_integer() -> None:
    assert captured_nodes(ir.from_proto(model("p = Exp (s)")).graph) == {}


@pytest.mark.parametrize("case", CASES)
def test_such_a_model_is_built_and_loads(case: str, tmp_path: Path) -> None:
    path = saved(model(CASES[case]), tmp_path)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(12, 1, 3, 6, 6)).astype(np.float32)
    for number, one in enumerate(x):
        np.savez(tmp_path / f"{number:02}.npz", x=one, c=np.asarray(number % 2 == 0))
    (tmp_path / "data").mkdir()
    for file in sorted(tmp_path.glob("*.npz")):
        file.rename(tmp_path / "data" / file.name)
    result = built(path, target="ort-arm64", data=tmp_path / "data", out=tmp_path / "o.onnx")
    assert result.plan.is_integer("Conv_0")
    feeds = {"x": x[0], "c": np.asarray(True)}
    (wanted,) = session(ir.from_proto(onnx.load(path))).run(feeds)
    (got,) = session(ir.from_proto(onnx.load(tmp_path / "o.onnx")), optimize=True).run(feeds)
    assert 10 * np.log10((wanted**2).sum() / ((wanted - got) ** 2).sum()) > 20
