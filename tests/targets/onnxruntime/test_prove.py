"""What the plan meant to be integer is found in ONNX Runtime's own graph, or its failure named."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.proof import NodeProof, Planned
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executed import executed, is_quantized
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.prove import optimized_graph, prove
from tests.passes.prepare.checking import parse

AVX2 = load_target("ort-x86-avx2")


def qdq(source: str, name: str, zero: str = "z") -> str:
    """Lines that quantize ``source`` into ``name_q`` and give it back as ``name_d``."""
    return (
        f"{name}_q = QuantizeLinear ({source}, s, {zero})\n"
        f"{name}_d = DequantizeLinear ({name}_q, s, {zero})\n"
    )


CONV = qdq("x", "x") + "wd = DequantizeLinear (w, sw, zw)\n c = Conv (x_d, wd)\n"
CONSTANTS = {
    "s": np.float32(0.05),
    "z": np.uint8(0),
    "z7": np.uint8(7),
    "sw": np.float32(0.01),
    "zw": np.int8(0),
    "w": np.random.default_rng(0).integers(-128, 128, (4, 3, 3, 3)).astype(np.int8),
    "m": np.random.default_rng(1).integers(-128, 128, (16, 6)).astype(np.int8),
    "b": np.random.default_rng(2).integers(-999, 999, 6).astype(np.int32),
    "sb": np.float32(0.05 * 0.01),
    "zb": np.int32(0),
    "f": np.ones(6, np.float32),
    "flat": np.array([0, -1]),
    "two": np.array([2, 2]),
}


def artefact(body: str, x: str = "float[1, 3, 8, 8]", ends: str = "float[a, b, c, d] y") -> bytes:
    names = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    constants = {k: v for k, v in CONSTANTS.items() if k in names}
    return lower(parse(f"g ({x} x) => ({ends}) {{ {body} }}", constants), AVX2)


def proof_of(body: str, *planned: Planned, **ends: str) -> list[NodeProof]:
    return list(prove(artefact(body, **ends), planned, AVX2).nodes)


def test_a_convolution_between_quantizers() -> None:
    body = CONV + qdq("c", "y1") + "y = Identity (y1_d)"
    proof = prove(artefact(body), [Planned("conv", "Conv", ("y1_q",))], AVX2)
    assert proof.nodes == (NodeProof("conv", "Conv", True, "QLinearConv"),)
    assert proof.failures == ()
    assert proof.kernels["QLinearConv"] == 1
    assert proof.runtime.startswith("onnxruntime 1.")


def test_a_convolution_without_an_output_quantizer_stays_float() -> None:
    (node,) = proof_of(CONV + "y = Identity (c)", Planned("conv", "Conv", ("y",)))
    assert (node.integer, node.kernel) == (False, "Conv")
    assert node.reason == "ONNX Runtime runs it as Conv"


def test_a_clamp_that_no_quantizer_does_keeps_it_float() -> None:
    body = CONV + "r = Relu (c)\n" + qdq("r", "y1", "z7") + "y = Identity (y1_d)"
    (node,) = proof_of(body, Planned("conv", "Conv", ("y1_q",)))
    assert not node.integer
    assert node.reason == f"ONNX Runtime left {node.kernel} in float between its quantizers"
    assert node.kernel in {"Relu", "FusedConv"}


def test_a_result_that_is_not_there() -> None:
    """A multiply-add cannot vanish; what only moves integers can, and then costs nothing."""
    body = CONV + qdq("c", "y1") + "y = Identity (y1_d)"
    gone = proof_of(body, Planned("a", "Conv", ("no",)), Planned("b", "Reshape", ("no",)))
    assert gone[0] == NodeProof(
        "a", "Conv", False, "", "its result does not appear in ONNX Runtime's graph"
    )
    assert gone[1] == NodeProof("b", "Reshape", True, "")


def test_the_first_name_that_is_there_counts() -> None:
    body = CONV + qdq("c", "y1") + "y = Identity (y1_d)"
    (node,) = proof_of(body, Planned("a", "Conv", ("no", "y1_q")))
    assert node.integer


MATMUL = qdq("x", "x") + "wd = DequantizeLinear (m, sw, zw)\n c = MatMul (x_d, wd)\n"


def test_matmul_and_add_of_rank_three_is_a_gemm_behind_a_reshape() -> None:
    body = MATMUL + "bd = DequantizeLinear (b, sb, zb)\n t = Add (c, bd)\n"
    body += qdq("t", "y1") + "y = Identity (y1_d)"
    ends = {"x": "float[2, 5, 16]", "ends": "float[2, 5, 6] y"}
    (node,) = proof_of(body, Planned("fc", "MatMul", ("y1_q",)), **ends)
    assert (node.integer, node.kernel) == (True, "QGemm")


@pytest.mark.parametrize(
    "tail", ["y = Tanh (t)", "y = Gelu (t)", qdq("t", "y1") + "y = Relu (y1_d)"]
)
def test_a_matmul_is_integer_also_where_its_bias_is_added_in_float(tail: str) -> None:
    """ONNX Runtime makes a Gemm of MatMul and Add only where it knows how to reshape."""
    body = MATMUL + "bd = DequantizeLinear (b, sb, zb)\n t = Add (c, bd)\n" + tail
    ends = {"x": "float[n, m, 16]", "ends": "float[n, m, 6] y"}
    result = "y1_q" if "y1_q" in body else "t"
    (node,) = proof_of(body, Planned("fc", "MatMul", (result,), own="c"), **ends)
    assert (node.integer, node.kernel) == (True, "MatMulIntegerToFloat")
    assert "Add" in node.absorbed or "does not appear" in node.absorbed
    (node,) = proof_of(body, Planned("fc", "MatMul", (result,)), **ends)
    assert not node.integer


def test_what_is_integer_as_a_whole_needs_no_second_look() -> None:
    body = CONV + "r = Relu (c)\n" + qdq("r", "y1") + "y = Identity (y1_d)"
    (node,) = proof_of(body, Planned("conv", "Conv", ("y1_q",), own="c"))
    assert (node.integer, node.absorbed) == (True, "")
    body = CONV + "r = Relu (c)\n" + qdq("r", "y1", "z7") + "y = Identity (y1_d)"
    (node,) = proof_of(body, Planned("conv", "Conv", ("y1_q",), own="c"))
    assert (node.integer, node.absorbed) == (False, "")


def test_a_matmul_may_give_floats() -> None:
    ends = {"x": "float[2, 5, 16]", "ends": "float[2, 5, 6] y"}
    (node,) = proof_of(MATMUL + "y = Tanh (c)", Planned("fc", "MatMul", ("c",)), **ends)
    assert (node.integer, node.kernel) == (True, "MatMulIntegerToFloat")


DYNAMIC = (
    "q, qs, qz = DynamicQuantizeLinear (x)\n xd = DequantizeLinear (q, qs, qz)\n"
    "wd = DequantizeLinear (m, sw, zw)\n c = MatMul (xd, wd)\n"
)


@pytest.mark.parametrize(
    ("body", "results"),
    [
        (DYNAMIC + "y = Tanh (c)", ("c",)),
        (DYNAMIC + "t = Add (c, f)\n y = Tanh (t)", ("c", "t")),
    ],
)
def test_dynamic(body: str, results: tuple[str, ...]) -> None:
    ends = {"x": "float[2, 5, 16]", "ends": "float[2, 5, 6] y"}
    (node,) = proof_of(body, Planned("fc", "MatMul", results), **ends)
    assert (node.integer, node.kernel) == (True, "DynamicQuantizeMatMul")


def test_both_halves_of_a_split() -> None:
    body = (
        qdq("x", "x") + "u, v = Split <axis = 0> (x_d, two)\n" + qdq("u", "u") + qdq("v", "v")
        + "y = Concat <axis = 1> (u_d, v_d)"
    )  # fmt: skip
    ends = {"x": "float[4, 16]", "ends": "float[2, 32] y"}
    found = proof_of(body, Planned("s", "Split", ("u_q",)), Planned("s", "Split", ("v_q",)), **ends)
    assert [(n.integer, n.kernel) for n in found] == [(True, "Split")] * 2


def test_argmax_of_integers_and_of_floats() -> None:
    ends = {"x": "float[4, 16]", "ends": "int64[4, 1] y"}
    (node,) = proof_of(
        qdq("x", "x") + "y = ArgMax <axis = 1> (x_d)", Planned("a", "ArgMax", ("y",)), **ends
    )
    assert (node.integer, node.kernel) == (True, "ArgMax")


def test_a_model_that_does_not_load() -> None:
    with pytest.raises(QCompileError) as caught:
        prove(b"no model", [], AVX2)
    assert caught.value.code is Code.RUNTIME_REFUSED


def test_a_path_serves_as_well_as_bytes(tmp_path: Path) -> None:
    data = artefact(CONV + qdq("c", "y1") + "y = Identity (y1_d)")
    (tmp_path / "a b.onnx").write_bytes(data)
    ops = [n.op_type for n in optimized_graph(tmp_path / "a b.onnx").node]
    assert ops == [n.op_type for n in optimized_graph(data).node]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a b.onnx"]


# --- with no plan at hand ---------------------------------------------------------------------


def runs(body: str, **ends: str) -> list[tuple[str, bool]]:
    return [(n.op, n.integer) for n in executed(artefact(body, **ends), AVX2)]


def test_executed_static() -> None:
    body = CONV + qdq("c", "y1") + "p = MaxPool <kernel_shape = [2, 2]> (y1_d)\n" + qdq("p", "p")
    assert runs(body + "y = Tanh (p_d)") == [
        ("QLinearConv", True),
        ("MaxPool", True),
        ("Tanh", False),
    ]


def test_executed_float() -> None:
    body = "c = MaxPool <kernel_shape = [2, 2]> (x)\n y = Tanh (c)"
    assert runs(body) == [("MaxPool", False), ("Tanh", False)]


def test_what_follows_a_dynamic_matmul_reads_floats() -> None:
    body = DYNAMIC + "t = Add (c, f)\n r = Reshape (t, shape)\n y = Add (r, f)"
    model = parse(
        f"g (float[2, 5, 16] x) => (float[10, 6] y) {{ {body} }}",
        {k: CONSTANTS[k] for k in ("m", "sw", "zw", "f")} | {"shape": np.array([10, 6])},
    )
    found = executed(lower(model, AVX2), AVX2)
    assert [(n.op, n.integer) for n in found] == [
        ("DynamicQuantizeMatMul", True),
        ("Reshape", False),
        ("Add", False),
    ]
    assert all(n.reason for n in found if not n.integer)


def test_what_follows_a_gemm_that_gives_floats_reads_floats() -> None:
    body = (
        qdq("x", "x") + "wd = DequantizeLinear (m, sw, zw)\n bd = DequantizeLinear (b, sb, zb)\n"
        "c = Gemm (x_d, wd, bd)\n y = Flatten (c)"
    )  # fmt: skip
    assert runs(body, x="float[5, 16]", ends="float[5, 6] y") == [
        ("QGemm", True),
        ("Flatten", False),
    ]


def test_an_op_that_could_be_integer_says_that_here_it_is_not() -> None:
    (node,) = executed(artefact(CONV + "y = Identity (c)"), AVX2)
    assert (node.op, node.integer) == ("Conv", False)
    assert node.reason == "it computes with floats in this model"


def test_integer_ends_are_followed() -> None:
    body = "d = DequantizeLinear (x, s, z)\n p = MaxPool <kernel_shape = [2, 2]> (d)\n"
    body += "y = QuantizeLinear (p, s, z)"
    found = runs(body, x="uint8[1, 3, 8, 8]", ends="uint8[1, 3, 7, 7] y")
    assert found == [("MaxPool", True)]


@pytest.mark.parametrize(
    ("body", "quantized"),
    [
        ("y = Relu (x)", False),
        ("y = Identity (x)", False),
        ("c = QuantizeLinear (x, s, z)\n y = DequantizeLinear (c, s, z)", True),
        ("q, qs, qz = DynamicQuantizeLinear (x)\n y = Cast <to = 1> (q)", True),
        (
            "q, qs, qz = DynamicQuantizeLinear (x)\n i = ConvInteger (q, w, qz)\n"
            "y = Cast <to = 1> (i)",
            True,
        ),
    ],
)
def test_which_models_are_quantized(body: str, quantized: bool) -> None:
    names = {k: v for k, v in CONSTANTS.items() if k in {"s", "z", "w"} and f" {k}" in body}
    model = parse(f"g (float[1, 3, 8, 8] x) => (float[a, b, c, d] y) {{ {body} }}", names)
    assert is_quantized(model) is quantized


def test_a_quantized_branch_counts() -> None:
    model = parse("""g (float[4] x, bool c) => (float[4] y)
        <float s = {0.5}, uint8 z = {0}> {
        y = If (c) <
            then_branch = t () => (float[4] a) {
                q = QuantizeLinear (x, s, z)
                a = DequantizeLinear (q, s, z)
            },
            else_branch = e () => (float[4] b) { b = Identity (x) }
        >
    }""")
    assert is_quantized(model)
