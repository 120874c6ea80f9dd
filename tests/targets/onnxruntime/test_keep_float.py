"""A float layer between quantizers stays float in ONNX Runtime's own graph too."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper

from qcompile.core.executor import Executor
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import (
    OrtExecutor,
    open_artefact,
    open_session,
    session_options,
)
from qcompile.targets.onnxruntime.keep_float import KeepFloat
from qcompile.targets.onnxruntime.lower import lower

EXECUTOR: Executor = OrtExecutor()


def weights(*shape: int) -> np.ndarray:
    """One channel along the first axis is a thousand times larger than the others."""
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    array[0] *= 1000
    return array


CONSTANTS: Mapping[str, np.ndarray] = {
    "s": np.asarray(0.03, np.float32), "t": np.asarray(0.02, np.float32),
    "z": np.asarray(0, np.uint8), "shape": np.asarray([1, 512], np.int64),
    "w": weights(8, 1, 3, 3), "b": weights(8)[::-1].copy(), "m": weights(512, 512) / 40,
    "c": weights(512), "low": np.asarray(0, np.float32), "high": np.asarray(5, np.float32),
}  # fmt: skip


def model(body: str) -> ir.Model:
    """Quantizers around ``body``, which makes ``h`` of ``d`` (1, 8, 8, 8) or ``r`` (1, 512)."""
    text = f"""<ir_version: 8, opset_import: ["" : 17]>
        net (float[1, 8, 8, 8] x) => (float[1, 8, 64] y) {{
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            r = Reshape (d, shape)
            {body}
            hq = QuantizeLinear (h, t, z)
            hd = DequantizeLinear (hq, t, z)
            last = Constant <value_ints = [1, 8, 64]> ()
            y = Reshape (hd, last)
        }}"""
    proto = onnx.parser.parse_model(text)
    used = {name for node in proto.graph.node for name in node.input}
    proto.graph.initializer.extend(
        numpy_helper.from_array(array, name) for name, array in CONSTANTS.items() if name in used
    )
    return ir.from_proto(proto)


X = np.abs(np.random.default_rng(1).normal(size=(1, 8, 8, 8))).astype(np.float32)
CONV = "<group = 8, pads = [1, 1, 1, 1]>"
LAYERS = {
    "Conv": f"h = Conv {CONV} (d, w, b)",
    "Conv without bias": f"h = Conv {CONV} (d, w)",
    "Conv and Clip": f"a = Conv {CONV} (d, w, b)\n h = Clip (a, low, high)",
    "Conv and Relu": f"a = Conv {CONV} (d, w, b)\n h = Relu (a)",
    "ConvTranspose": f"h = ConvTranspose {CONV} (d, w, b)",
    "Gemm": "h = Gemm (r, m, c)",
    "Gemm and Relu": "a = Gemm (r, m, c)\n h = Relu (a)",
    "MatMul and Add": "a = MatMul (r, m)\n h = Add (a, c)",
}


def as_written(float_layer: ir.Model) -> np.ndarray:
    return EXECUTOR.load(float_layer, optimize=False).run({"x": X})[0]


@pytest.mark.parametrize("name", LAYERS)
def test_its_function_is_kept_and_onnx_runtime_leaves_it_alone(name: str) -> None:
    wanted = as_written(model(LAYERS[name]))
    step = float(CONSTANTS["t"])
    guarded = model(LAYERS[name])
    assert KeepFloat()(guarded).modified
    assert not KeepFloat()(guarded).modified
    assert np.array_equal(as_written(guarded), wanted)
    for exact in (False, True):
        found = EXECUTOR.load(model(LAYERS[name]), exact=exact).run({"x": X})[0]
        assert np.abs(found - wanted).max() <= 1.01 * step, "another order of float sums"
    artefact = lower(model(LAYERS[name]), load_target("ort-x86-vnni"))
    found = open_artefact(artefact).run({"x": X})[0]
    assert np.abs(found - wanted).max() <= 1.01 * step


def test_without_the_guard_onnx_runtime_quantizes_it() -> None:
    """When this fails, ONNX Runtime no longer does so, and the pass may go."""
    proto = ir.to_proto(model(LAYERS["Conv"]))
    found = open_session(proto.SerializeToString(), session_options()).run({"x": X})[0]
    assert np.abs(found - as_written(model(LAYERS["Conv"]))).max() > 0.1


LEFT = {
    "weights that are dequantized": (
        "i = Constant <value = int8[8, 1, 1, 1] {1, 2, 3, 4, 5, 6, 7, 8}> ()\n"
        "k = DequantizeLinear (i, s)\n h = Conv <group = 8> (d, k)"
    ),
    "float data": f"e = Sigmoid (x)\n h = Conv {CONV} (e, w, b)",
    "float data behind a quantizer": f"e = Sigmoid (d)\n h = Conv {CONV} (e, w, b)",
    "two activations": "e = Transpose <perm = [0, 1, 3, 2]> (d)\n h = MatMul (d, e)",
}


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name: str) -> None:
    same = model(LEFT[name])
    before = [node.op_type for node in same.graph]
    assert not KeepFloat()(same).modified
    assert [node.op_type for node in same.graph] == before


def test_the_name_of_an_output_stays() -> None:
    proto = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        net (uint8[1, 512] q) => (float[1, 512] y) <float s = {0.1}> {
            d = DequantizeLinear (q, s)
            y = Gemm (d, m)
        }"""
    )
    proto.graph.initializer.append(numpy_helper.from_array(CONSTANTS["m"], "m"))
    guarded = ir.from_proto(proto)
    assert KeepFloat()(guarded).modified
    assert [v.name for v in guarded.graph.outputs] == ["y"]
    onnx.checker.check_model(ir.to_proto(guarded), full_check=True)
