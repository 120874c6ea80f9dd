"""A Conv of one position that gives floats is written as a Gemm, and runs in integers."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from qcompile.core.executor import Executor
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import OrtExecutor, open_artefact
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.point_conv import PointConv
from qcompile.targets.onnxruntime.prove import optimized_graph

EXECUTOR: Executor = OrtExecutor()
RNG = np.random.default_rng(3)
CONSTANTS = {
    "s": np.asarray(0.03, np.float32), "z": np.asarray(7, np.uint8),
    "w": RNG.integers(-127, 128, (6, 8, 1, 1)).astype(np.int8),
    "k": RNG.integers(-127, 128, (6, 8, 2, 2)).astype(np.int8),
    "g": RNG.integers(-127, 128, (6, 4, 1, 1)).astype(np.int8),
    "sw": RNG.uniform(0.01, 0.02, 6).astype(np.float32), "zw": np.zeros(6, np.int8),
    "b": RNG.integers(-9999, 9999, 6).astype(np.int32), "v": RNG.normal(size=(6, 8, 1, 1)),
}  # fmt: skip
CONSTANTS["v"] = CONSTANTS["v"].astype(np.float32)
CONSTANTS["sb"] = (CONSTANTS["s"] * CONSTANTS["sw"]).astype(np.float32)
DATA = "q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)  "
WEIGHT = "e = DequantizeLinear<axis = 0>(w, sw, zw)  "
BIAS = "c = DequantizeLinear<axis = 0>(b, sb)  "


def model(body: str, shape: str = "N, 8, 1, 1", out: str = "N, 6, 1, 1") -> ir.Model:
    """A model of ``x``, with shapes, and the constants that it reads."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[{shape}] x) => (float[{out}] y) {{ {body} }}"""
    proto = onnx.parser.parse_model(text)
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in CONSTANTS.items()
        if name in used
    )
    return ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))


def ops(of: ir.Model) -> list[str]:
    return [node.op_type for node in of.graph if node.op_type != "DequantizeLinear"]


@pytest.mark.parametrize("bias", [True, False])
def test_it_becomes_an_integer_gemm_of_the_same_sums(bias: bool) -> None:
    body = DATA + WEIGHT + (f"{BIAS} y = Conv(d, e, c)" if bias else "y = Conv(d, e)")
    before, after = model(body), model(body)
    assert PointConv()(after).modified
    assert ops(after) == ["QuantizeLinear", "Flatten", "Gemm", "Reshape"]
    assert not PointConv()(after).modified
    x = RNG.uniform(-0.2, 7.0, (5, 8, 1, 1)).astype(np.float32)
    (wanted,) = EXECUTOR.load(before).run({"x": x})
    artefact = lower(before, load_target("ort-x86-vnni"))
    (got,) = open_artefact(artefact, exact=True).run({"x": x})
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * float(np.abs(wanted).max()))
    made = [node.op_type for node in optimized_graph(artefact).node]
    assert "QGemm" in made and "Conv" not in made and "FusedConv" not in made


@pytest.mark.parametrize(
    "body",
    [
        f"{DATA}{WEIGHT} h = Conv(d, e)  i = QuantizeLinear(h, s, z) y = DequantizeLinear(i, s, z)",
        f"{DATA} y = Conv(d, v)",
        f"{WEIGHT} y = Conv(x, e)",
        f"{DATA} e = DequantizeLinear<axis = 0>(g, sw, zw)  y = Conv<group = 2>(d, e)",
    ],
    ids=["quantized behind", "float weight", "float data", "groups"],
)
def test_what_is_left(body: str) -> None:
    assert not PointConv()(model(body)).modified


def test_many_positions_and_taps_are_left() -> None:
    body = f"{DATA}{WEIGHT} y = Conv(d, e)"
    assert not PointConv()(model(body, "N, 8, 2, 2", "N, 6, 2, 2")).modified
    taps = f"{DATA} e = DequantizeLinear<axis = 0>(k, sw, zw)  y = Conv(d, e)"
    assert not PointConv()(model(taps, "N, 8, 2, 2")).modified
    padded = f"{DATA}{WEIGHT} y = Conv<pads = [1, 1, 1, 1]>(d, e)"
    assert not PointConv()(model(padded, out="N, 6, 3, 3")).modified
