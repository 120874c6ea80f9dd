"""The stamp is the lowest opset under which the file is valid and means the same."""

import dataclasses

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.opset import stamp
from tests.passes.prepare.checking import parse, rand
from tests.targets.onnxruntime.running import run_bytes, run_plain

AVX2 = load_target("ort-x86-avx2")
PER_CHANNEL = "y = DequantizeLinear <axis = 1> (x, s, z)"
CHANNELS = {"s": np.full(4, 0.5, np.float32), "z": np.zeros(4, np.int8)}

# node(s), type and shape of x and of y, opset, constants
FLOAT = "float[2, 4, 6, 6]"
TABLE: dict[str, tuple[str, str, str, int, dict[str, np.ndarray]]] = {
    "per-channel DequantizeLinear": (PER_CHANNEL, "int8[2, 4]", "float[2, 4]", 13, CHANNELS),
    "Conv": ("y = Conv (x, w)", FLOAT, "float[2, 3, 4, 4]", 13, {"w": rand(3, 4, 3, 3)}),
    "Relu": ("y = Relu (x)", FLOAT, FLOAT, 13, {}),
    "Add": ("y = Add (x, x)", FLOAT, FLOAT, 13, {}),
    "Softmax": ("y = Softmax <axis = 1> (x)", FLOAT, FLOAT, 13, {}),
    "HardSwish": ("y = HardSwish (x)", FLOAT, FLOAT, 14, {}),
    "Trilu": ("y = Trilu (x)", FLOAT, FLOAT, 14, {}),
    "Reshape": ("y = Reshape (x, t)", FLOAT, "float[2, 144]", 13, {"t": np.array([2, 144])}),
    "Reshape, allowzero": (
        "y = Reshape <allowzero = 1> (x, t)",
        FLOAT,
        "float[2, 144]",
        14,
        {"t": np.array([2, 144])},
    ),
    "Add of uint8": ("y = Add (x, x)", "uint8[4]", "uint8[4]", 14, {}),
    "Shape": ("y = Shape (x)", FLOAT, "int64[4]", 13, {}),
    "Shape, start": ("y = Shape <start = 2> (x)", FLOAT, "int64[2]", 15, {}),
    "Where": ("y = Where (c, x, x)", FLOAT, FLOAT, 13, {"c": np.array(True)}),
    "ScatterND": (
        "y = ScatterND (x, i, u)",
        "float[4]",
        "float[4]",
        13,
        {"i": np.array([[1]]), "u": np.ones(1, np.float32)},
    ),
    "ScatterND, add": (
        'y = ScatterND <reduction = "add"> (x, i, u)',
        "float[4]",
        "float[4]",
        16,
        {"i": np.array([[1]]), "u": np.ones(1, np.float32)},
    ),
    "GridSample": (
        "y = GridSample (x, g)",
        FLOAT,
        "float[2, 4, 2, 2]",
        20,
        {"g": rand(2, 2, 2, 2)},
    ),
    "LayerNormalization": (
        "y = LayerNormalization (x, s)",
        FLOAT,
        FLOAT,
        17,
        {"s": np.ones(6, np.float32)},
    ),
    "ReduceMean, axes": (
        "y = ReduceMean (x, a)",
        FLOAT,
        "float[2, 1, 6, 6]",
        18,
        {"a": np.array([1])},
    ),
    "ReduceMean, all": ("y = ReduceMean (x)", FLOAT, "float[1, 1, 1, 1]", 13, {}),
    "ReduceSum, axes": (
        "y = ReduceSum (x, a)",
        FLOAT,
        "float[2, 1, 6, 6]",
        13,
        {"a": np.array([1])},
    ),
    "Pad": ("y = Pad (x, p)", "float[4]", "float[6]", 13, {"p": np.array([1, 1])}),
    "Pad, axes": (
        "y = Pad (x, p, , a)",
        "float[2, 4]",
        "float[2, 6]",
        18,
        {"p": np.array([1, 1]), "a": np.array([1])},
    ),
    "Pad, reflect": (
        'y = Pad <mode = "reflect"> (x, p)',
        "float[4]",
        "float[6]",
        13,
        {"p": np.array([1, 1])},
    ),
    "Pad, wrap": (
        'y = Pad <mode = "wrap"> (x, p)',
        "float[4]",
        "float[6]",
        19,
        {"p": np.array([1, 1])},
    ),
    "Split": (
        "y, b = Split <axis = 0> (x, t)",
        "float[4]",
        "float[1]",
        13,
        {"t": np.array([1, 3])},
    ),
    "Split, num_outputs": ("y, b = Split <num_outputs = 2> (x)", "float[4]", "float[2]", 18, {}),
    "Resize": (
        'y = Resize <mode = "nearest"> (x, , s)',
        FLOAT,
        "float[2, 4, 12, 12]",
        13,
        {"s": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Resize, antialias": (
        'y = Resize <mode = "linear", antialias = 1> (x, , s)',
        FLOAT,
        "float[2, 4, 3, 3]",
        18,
        {"s": np.array([1, 1, 0.5, 0.5], np.float32)},
    ),
    "Resize, half_pixel_symmetric": (
        'y = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel_symmetric">'
        " (x, , s)",
        FLOAT,
        "float[2, 4, 8, 8]",
        19,
        {"s": np.array([1, 1, 1.4, 1.4], np.float32)},
    ),
    "Mish": ("y = Mish (x)", FLOAT, FLOAT, 18, {}),
    "AveragePool": (
        "y = AveragePool <kernel_shape = [2, 2]> (x)",
        FLOAT,
        "float[2, 4, 5, 5]",
        13,
        {},
    ),
    "AveragePool, dilations": (
        "y = AveragePool <kernel_shape = [2, 2], dilations = [2, 2]> (x)",
        FLOAT,
        "float[2, 4, 4, 4]",
        19,
        {},
    ),
    "RoiAlign": (
        "y = RoiAlign <output_height = 2, output_width = 2> (x, r, b)",
        FLOAT,
        "float[1, 4, 2, 2]",
        16,
        {"r": np.array([[0.3, 0.4, 4, 4.5]], np.float32), "b": np.array([1])},
    ),
    "Gelu": ("y = Gelu (x)", FLOAT, FLOAT, 20, {}),
    "IsInf": ("y = IsInf (x)", FLOAT, "bool[2, 4, 6, 6]", 13, {}),
    "GroupNormalization": (
        "y = GroupNormalization <num_groups = 2> (x, s, s)",
        FLOAT,
        FLOAT,
        21,
        {"s": rand(4)},
    ),
    "DFT": ("y = DFT (x)", "float[2, 5, 7, 1]", "float[2, 5, 7, 2]", 20, {}),
    "QuantizeLinear": (
        "y = QuantizeLinear (x, s, z)",
        FLOAT,
        "uint8[2, 4, 6, 6]",
        13,
        {"s": np.float32(0.1), "z": np.uint8(3)},
    ),
    "QuantizeLinear to uint16": (
        "y = QuantizeLinear (x, s, z)",
        FLOAT,
        "uint16[2, 4, 6, 6]",
        21,
        {"s": np.float32(0.1), "z": np.uint16(3)},
    ),
    "DequantizeLinear in blocks": (
        "y = DequantizeLinear <axis = 0, block_size = 2> (x, s)",
        "int8[4, 2]",
        "float[4, 2]",
        21,
        {"s": np.full((2, 2), 0.5, np.float32)},
    ),
    "DynamicQuantizeLinear": (
        "y, s, z = DynamicQuantizeLinear (x)",
        FLOAT,
        "uint8[2, 4, 6, 6]",
        13,
        {},
    ),
    "LSTM": (
        "y = LSTM <hidden_size = 2> (x, w, r)",
        "float[3, 1, 4]",
        "float[3, 1, 1, 2]",
        13,
        {"w": rand(1, 8, 4), "r": rand(1, 8, 2)},
    ),
    "BatchNormalization": (
        "y = BatchNormalization (x, s, s, s, v)",
        FLOAT,
        FLOAT,
        13,
        {"s": rand(4), "v": np.ones(4, np.float32)},
    ),
}


def model(name: str) -> ir.Model:
    body, x, y, _, constants = TABLE[name]
    return parse(f"g ({x} x) => ({y} y) {{ {body} }}", constants)


def feeds(one: ir.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    found = {}
    for value in one.graph.inputs:
        assert value.dtype is not None and value.shape is not None
        shape = tuple(value.shape.numpy())
        kind = value.dtype.numpy()
        floats = np.issubdtype(kind, np.floating)
        x = rng.normal(size=shape) * 3 if floats else rng.integers(0, 100, shape)
        found[value.name or ""] = x.astype(kind)
    return found


@pytest.mark.parametrize("name", TABLE)
def test_the_lowest_opset_is_found_and_means_the_same(name: str) -> None:
    one = model(name)
    before = run_plain(one, feeds(one))
    artefact = lower(one, AVX2)
    stamped = onnx.load_from_string(artefact)
    onnx.checker.check_model(stamped, full_check=True)
    assert [(o.domain, o.version) for o in stamped.opset_import] == [("", TABLE[name][3])]
    for a, b in zip(before, run_bytes(artefact, feeds(one)), strict=True):
        assert a.dtype == b.dtype
        if np.issubdtype(a.dtype, np.floating):
            assert np.abs(a - b).max() <= 2e-6 * np.abs(a).max()
        else:
            assert np.array_equal(a, b)


def below(artefact: bytes, opset: int) -> bytes:
    proto = onnx.load_from_string(artefact)
    proto.opset_import[0].version = opset
    return proto.SerializeToString()


@pytest.mark.parametrize("name", ["RoiAlign", "GroupNormalization", "DFT"])
def test_the_table_of_silent_changes_is_not_idle(name: str) -> None:
    """One opset lower the same node is refused, or computes something else."""
    one = model(name)
    artefact = lower(one, AVX2)
    (wanted,) = run_bytes(artefact, feeds(one))
    try:
        (got,) = run_bytes(below(artefact, TABLE[name][3] - 1), feeds(one))
    except QCompileError:
        return
    assert got.shape != wanted.shape or np.abs(got - wanted).max() > 1e-3


def test_int4_weights_need_21() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g () => (float[2] y) <int4[2] w = {1, -8}, float s = {0.5}> {
            y = DequantizeLinear (w, s)
        }"""
    one = ir.from_proto(onnx.parser.parse_model(text))
    assert stamp(one, AVX2) == 21
    assert one.ir_version == 10


def test_the_ir_version_goes_with_the_opset() -> None:
    versions = {}
    for name in ("Relu", "HardSwish", "LayerNormalization", "Mish", "Gelu"):
        one = model(name)
        opset = stamp(one, AVX2)
        versions[opset] = one.ir_version
    assert versions == {13: 7, 14: 7, 17: 8, 18: 8, 20: 9}
    old = model("QuantizeLinear to uint16")
    stamp(old, dataclasses.replace(AVX2, max_ir_version=9))
    assert old.ir_version == 9


def test_the_neediest_node_decides_also_in_a_branch() -> None:
    one = parse("""g (float[4] x, bool c) => (float[4] y) {
        r = Relu (x)
        y = If (c) <
            then_branch = t () => (float[4] a) { a = Gelu (r) },
            else_branch = e () => (float[4] b) { b = Identity (r) }
        >
    }""")
    assert stamp(one, AVX2) == 20


def test_what_the_runtime_is_too_old_for_is_refused_with_the_node() -> None:
    old = dataclasses.replace(AVX2, max_opset=17, min_runtime="1.14")
    with pytest.raises(QCompileError) as caught:
        stamp(model("Gelu"), old)
    assert caught.value.code is Code.OPSET_UNSUPPORTED
    assert caught.value.node == "n0_Gelu"
    assert "opset 20" in caught.value.message
    assert "1.14" in caught.value.message


def test_domains_that_nothing_uses_are_dropped_and_others_kept() -> None:
    one = parse("g (float[4] x) => (float[4] y) { y = Relu (x) }")
    one.opset_imports.update({"com.microsoft": 1, "ai.onnx.ml": 3})
    node = ir.node("FastGelu", [one.graph.inputs[0]], domain="com.microsoft", name="fast")
    node.outputs[0].name = "unused"
    one.graph.append(node)
    stamp(one, AVX2)
    assert one.opset_imports == {"": 13, "com.microsoft": 1}
