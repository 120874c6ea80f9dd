"""Models whose nodes share weights load in exact mode, and compute the same."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.targets.onnxruntime import executor as executor_module
from qcompile.targets.onnxruntime.exact_sums import give_own_weights
from qcompile.targets.onnxruntime.executor import OrtExecutor, open_artefact
from tests.passes.prepare.checking import parse, rand

W = np.random.default_rng(0).integers(-64, 64, (16, 16)).astype(np.int8)
"""So small that the kernels of AVX2, which run unless exact ones are asked for, are exact too."""
CONSTANTS = {
    "w": W,
    "v": W[::-1].copy(),
    "sw": np.float32(0.01),
    "zw": np.int8(0),
    "s": np.float32(0.05),
    "z": np.uint8(120),
}
Q = "q = QuantizeLinear (x, s, z)\n a = DequantizeLinear (q, s, z)\n"
X = rand(4, 16)
STEP = 0.05 * 64 * 0.01 * 2
"""What one integer of the value between two MatMuls may change in the output."""


def model(body: str, outputs: str = "y") -> ir.Model:
    used = {k: v for k, v in CONSTANTS.items() if k in body.replace(",", " ").replace(")", " ")}
    ends = ", ".join(f"float[n, 16] {name}" for name in outputs)
    return parse(f"g (float[n, 16] x) => ({ends}) {{ {body} }}", used)


SHARED = {
    "one dequantizer, two readers": model(
        Q + "b = DequantizeLinear (w, sw, zw)\n c = MatMul (a, b)\n d = QuantizeLinear (c, s, z)\n"
        "e = DequantizeLinear (d, s, z)\n y = MatMul (e, b)"
    ),
    "two dequantizers": model(
        Q + "b = DequantizeLinear (w, sw, zw)\n b2 = DequantizeLinear (w, sw, zw)\n"
        "c = MatMul (a, b)\n d = MatMul (a, b2)\n y = Add (c, d)"
    ),
    "one zero point": model(
        Q + "b = DequantizeLinear (w, sw, zw)\n b2 = DequantizeLinear (v, sw, zw)\n"
        "c = MatMul (a, b)\n d = MatMul (a, b2)\n y = Add (c, d)"
    ),
    "integer matmuls": model(
        "q, t, k = DynamicQuantizeLinear (x)\n i = MatMulInteger (q, w, k, zw)\n"
        "j = MatMulInteger (q, w, k, zw)\n f = Cast <to = 1> (i)\n g = Cast <to = 1> (j)\n"
        "y = Add (f, g)"
    ),
    "an output too": model(
        Q + "b = DequantizeLinear (w, sw, zw)\n y = MatMul (a, b)", outputs="yb"
    ),
}


@pytest.mark.parametrize("name", SHARED)
def test_the_same_results_in_every_mode(name: str) -> None:
    shared = SHARED[name]
    before = ir.to_proto(shared).SerializeToString(deterministic=True)
    wanted = OrtExecutor().load(shared, optimize=False).run({"x": X})
    data = ir.to_proto(shared).SerializeToString()
    sessions = [OrtExecutor().load(shared, exact=True), open_artefact(data, exact=True)]
    for session in sessions:
        for a, b in zip(wanted, session.run({"x": X}), strict=True):
            assert np.abs(a - b).max() <= max(1e-5 * np.abs(a).max(), STEP * ("two r" in name))
    assert ir.to_proto(shared).SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", SHARED)
def test_each_copy_has_one_reader_and_the_model_is_sound(name: str) -> None:
    proto = ir.to_proto(SHARED[name])
    changed = give_own_weights(proto)
    onnx.checker.check_model(proto, full_check=True)
    reads = [i for node in proto.graph.node for i in node.input]
    bytes_ = [t.name for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    assert all(reads.count(n) == 1 for n in bytes_)
    assert changed
    assert not give_own_weights(proto), "nothing is left to do"


def test_what_is_not_shared_is_left() -> None:
    proto = ir.to_proto(model(Q + "b = DequantizeLinear (w, sw, zw)\n y = MatMul (a, b)"))
    before = proto.SerializeToString(deterministic=True)
    assert not give_own_weights(proto)
    assert proto.SerializeToString(deterministic=True) == before


def test_a_model_that_goes_through_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "_ONE_MESSAGE", 1)
    shared = SHARED["one dequantizer, two readers"]
    (wanted,) = OrtExecutor().load(shared, optimize=False).run({"x": X})
    (got,) = OrtExecutor().load(shared, exact=True).run({"x": X})
    assert np.abs(wanted - got).max() <= STEP
