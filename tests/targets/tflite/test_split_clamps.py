"""A clamp that its producer cannot do gets a quantizer before it: the same integers."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.targets.tflite.split_clamps import SplitClamps
from tests.passes.planning import session
from tests.targets.tflite.lowering import parse

CONSTANTS = {
    "s": np.float32(0.05),
    "z": np.int8(-10),
    "low": np.float32(-1.02),
    "high": np.float32(2.013),
    "w": np.asarray([[[[0.3]], [[-0.7]]], [[[0.9]], [[0.2]]]], np.float32),
}


def graph(body: str) -> ir.Model:
    text = f"""g (int8[1,2,8,9] x) => (int8[1,2,8,9] y) {{
        a = DequantizeLinear(x, s, z) {body} }}"""
    used = {k: v for k, v in CONSTANTS.items() if k in text}
    return parse(text, used)


def ops(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


SPLIT = {
    "clip behind Conv": "h = Conv(a, w) c = Clip(h, low, high) y = QuantizeLinear(c, s, z)",
    "relu behind Abs": "h = Abs(a) c = Relu(h) y = QuantizeLinear(c, s, z)",
}
CLAMP = {"clip behind Conv": "Clip", "relu behind Abs": "Relu"}
LEFT = {
    "fused": "h = Conv(a, w) c = Relu(h) y = QuantizeLinear(c, s, z)",
    "on integers": "c = Clip(a, low, high) y = QuantizeLinear(c, s, z)",
    "another reader": """h = Abs(a) c = Clip(h, low, high) d = Add(c, h)
        y = QuantizeLinear(d, s, z)""",
}


@pytest.mark.parametrize("case", SPLIT)
def test_split(case: str) -> None:
    model = graph(SPLIT[case])
    x = {"x": np.random.default_rng(0).integers(-128, 128, (1, 2, 8, 9), dtype=np.int8)}
    before = session(model).run(x)[0]
    assert SplitClamps()(model).modified
    assert ops(model)[2:5] == ["QuantizeLinear", "DequantizeLinear", CLAMP[case]]
    np.testing.assert_array_equal(session(model).run(x)[0], before)
    assert not SplitClamps()(model).modified


@pytest.mark.parametrize("case", LEFT)
def test_left_alone(case: str) -> None:
    model = graph(LEFT[case])
    before = ops(model)
    assert not SplitClamps()(model).modified
    assert ops(model) == before
