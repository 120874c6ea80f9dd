"""What moves integers stands between quantizers afterwards, and gives the same integers."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.prepare.real_moves import RealMoves
from tests.passes.prepare.checking import changed, ops, parse, unchanged

NUMBERS = {
    "s": np.float32(0.25), "z": np.uint8(100), "t": np.float32(0.5), "shape": np.array([-1, 4]),
    "i": np.array([1, 0]), "halves": np.array([2, 2]),
}  # fmt: skip
BEFORE, AFTER = "q = QuantizeLinear(x, s, z)", "y = DequantizeLinear(r, s, z)"


def model(body: str, rank: int = 4) -> ir.Model:
    end = ", ".join("ABCD"[:rank])
    return parse(f"g (float[2, 1, 4, 4] x) => (float[{end}] y) {{ {body} }}", NUMBERS)


@pytest.mark.parametrize(
    "moves",
    [
        "r = Reshape(q, shape)",
        "r = Flatten(q)",
        "r = Transpose<perm = [0, 2, 3, 1]>(q)",
        "r = MaxPool<kernel_shape = [2, 2]>(q)",
        "r = Concat<axis = 1>(q, q)",
        "r = Gather<axis = 0>(q, i)",
        "p, u = Split<axis = 2>(q, halves) r = Concat<axis = 3>(p, u)",
        "p = MaxPool<kernel_shape = [2, 2]>(q) r = Flatten(p)",
    ],
)
def test_moves_are_of_what_integers_stand_for(moves):
    rank = 2 if moves.endswith(("Reshape(q, shape)", "Flatten(q)", "Flatten(p)")) else 4
    made = changed(RealMoves(), model(f"{BEFORE} {moves} {AFTER}", rank), tolerance=0)
    for node in made.graph:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            assert node.outputs[0].dtype == ir.DataType.FLOAT
    assert ops(made)[-2:] == ["QuantizeLinear", "DequantizeLinear"]


@pytest.mark.parametrize(
    "body",
    [
        "y = Flatten(x)",
        f"{BEFORE} p = QuantizeLinear(x, t, z) r = Concat<axis = 1>(q, p) {AFTER}",
        f"{BEFORE} r, k = MaxPool<kernel_shape = [2, 2]>(q) "
        "u = Cast<to = 1>(k) v = DequantizeLinear(r, s, z) y = Add(u, v)",
        "u = Abs(s) q = QuantizeLinear(x, u, z) r = Flatten(q) y = DequantizeLinear(r, u, z)",
    ],
)
def test_left_alone(body):
    unchanged(RealMoves(), model(body))
