"""Which nodes become integer, which are absorbed, which stay float, with the reason, by example."""

import time
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.target import Target
from qcompile.passes.plan.assign import assign_static
from qcompile.targets.catalog import load_target
from tests.passes.planning import TARGET, draft, modes, why
from tests.passes.prepare.checking import parse, rand

INT, FLOAT = "integer", "float"
PICTURE = "float[1, 4, 8, 8]"
WEIGHTS = {
    "w": rand(4, 4, 1, 1),
    "b": rand(4),
    "m": rand(8, 8),
    "mb": rand(8),
    "zero": np.float32(0),
    "one": np.float32(1),
    "minus": np.float32(-1),
    "six": np.float32(6),
    "k": rand(1, 4, 1, 1),
    "shape": np.asarray([1, 4, 64], np.int64),
    "parts": np.asarray([2, 2], np.int64),
}


def net(body: str, inputs: str = f"{PICTURE} x", outputs: str = "float[] y") -> ir.Model:
    return parse(f"g ({inputs}) => ({outputs}) {{ {body} }}", WEIGHTS)


def kinds(model: ir.Model, **options: object) -> list[str]:
    """Modes in graph order; ``absorbed`` with the op it goes into."""
    plan = draft(model, **options)
    found = []
    for node in model.graph:
        entry = plan.nodes[node.name or ""]
        into = f" by {plan.nodes[entry.into].op}" if entry.into else ""
        found.append(f"{node.op_type} {entry.mode}{into}")
        assert (entry.mode == FLOAT) == bool(entry.reason), entry
    assert list(plan.nodes) == [node.name for node in model.graph]
    return found


# --- golden graphs ---------------------------------------------------------------------------

GOLDEN = {
    "conv": ("y = Conv (x, w, b)", ["Conv integer"]),
    "conv and relu": (
        "c = Conv (x, w, b) y = Relu (c)",
        ["Conv integer", "Relu absorbed by Conv"],
    ),
    "conv and clip from 0": (
        "c = Conv (x, w, b) y = Clip (c, zero, six)",
        ["Conv integer", "Clip absorbed by Conv"],
    ),
    "conv and clip with no upper bound": (
        "c = Conv (x, w, b) y = Clip (c, zero)",
        ["Conv integer", "Clip absorbed by Conv"],
    ),
    "a clip from below 0 is not exact": (
        "c = Conv (x, w, b) y = Clip (c, minus, one)",
        ["Conv integer", "Clip float"],
    ),
    "a clip with no lower bound": (
        "c = Conv (x, w, b) y = Clip (c, , six)",
        ["Conv integer", "Clip float"],
    ),
    "a relu behind a clamp is not absorbed": (
        "c = Conv (x, w, b) r = Relu (c) y = Relu (r)",
        ["Conv integer", "Relu absorbed by Conv", "Relu float"],
    ),
    "residual": (
        "c = Conv (x, w, b) a = Add (c, x) r = Relu (a) y = Conv (r, w, b)",
        ["Conv integer", "Add integer", "Relu absorbed by Add", "Conv integer"],
    ),
    "a relu whose input has another reader": (
        "c = Conv (x, w, b) r = Relu (c) y = Add (c, r)",
        ["Conv integer", "Relu float", "Add float"],
    ),
    "squeeze and excitation": (
        "c = Conv (x, w, b) p = GlobalAveragePool (c) e = Conv (p, w, b) s = Sigmoid (e) "
        "m0 = Mul (c, s) y = Conv (m0, w, b)",
        [f"{op} integer" for op in ["Conv", "GlobalAveragePool", "Conv", "Sigmoid", "Mul", "Conv"]],
    ),
    "concat": (
        "a = Conv (x, w, b) c = Conv (x, w) y = Concat <axis = 1> (a, c)",
        ["Conv integer", "Conv integer", "Concat integer"],
    ),
    "split": (
        "c = Conv (x, w, b) s, t = Split <axis = 1> (c, parts) a = Add (s, t) y = Sigmoid (a)",
        ["Conv integer", "Split integer", "Add integer", "Sigmoid integer"],
    ),
    "a split half of which is not read": (
        "c = Conv (x, w, b) y, t = Split <axis = 1> (c, parts)",
        ["Conv integer", "Split float"],
    ),
    "moving integers to a float node": (
        "c = Conv (x, w, b) p = MaxPool <kernel_shape = [2, 2]> (c) "
        "t = Transpose <perm = [0, 2, 3, 1]> (p) y = Tanh (t)",
        ["Conv integer", "MaxPool integer", "Transpose integer", "Tanh float"],
    ),
    "a pool whose indices are read": (
        "c = Conv (x, w, b) p, i = MaxPool <kernel_shape = [2, 2]> (c) j = Cast <to = 1> (i) "
        "y = Add (p, j)",
        ["Conv integer", "MaxPool float", "Cast float", "Add float"],
    ),
    "softmax at the end": (
        "c = Conv (x, w, b) y = Softmax <axis = 1> (c)",
        ["Conv integer", "Softmax integer"],
    ),
    "a constant operand": (
        "c = Conv (x, w, b) a = Add (c, k) y = Conv (a, w, b)",
        ["Conv integer", "Add integer", "Conv integer"],
    ),
    "a value times itself": (
        "c = Conv (x, w, b) a = Mul (c, c) y = Conv (a, w, b)",
        ["Conv integer", "Mul integer", "Conv integer"],
    ),
    "an island between floats": (
        "t = Tanh (x) a = Add (t, k) y = Tanh (a)",
        ["Tanh float", "Add float", "Tanh float"],
    ),
    "a multiply-add between floats pays": (
        "t = Tanh (x) c = Conv (t, w, b) y = Tanh (c)",
        ["Tanh float", "Conv integer", "Tanh float"],
    ),
    "integers at the front that only floats read": (
        "a = Add (x, k) y = Tanh (a)",
        ["Add float", "Tanh float"],
    ),
    "moving integers at the front for nobody": (
        "t = Transpose <perm = [0, 2, 3, 1]> (x) y = Tanh (t)",
        ["Transpose float", "Tanh float"],
    ),
    "moving integers at the front for a layer": (
        "t = Transpose <perm = [0, 3, 1, 2]> (x) y = Conv (t, w8)",
        ["Transpose integer", "Conv integer"],
    ),
    "a chain of islands falls from its end": (
        "c = Conv (x, w, b) s = Sigmoid (c) a = Add (s, k) d = Mul (a, k) y = Tanh (d)",
        ["Conv integer", "Sigmoid float", "Add float", "Mul float", "Tanh float"],
    ),
    "what an island absorbed becomes float with it": (
        "t = Tanh (x) a = Add (t, k) r = Relu (a) y = Conv (r, w, b)",
        ["Tanh float", "Add float", "Relu float", "Conv integer"],
    ),
    "an island that feeds an absorbing island": (
        "c = Conv (x, w, b) a = Add (c, k) r = Relu (a) d = Mul (r, k) y = Tanh (d)",
        ["Conv integer", "Add float", "Relu float", "Mul float", "Tanh float"],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_pictures(name):
    body, wanted = GOLDEN[name]
    model = parse(
        f"g ({PICTURE} x) => (float[] y) {{ {body} }}", WEIGHTS | {"w8": rand(4, 8, 1, 1)}
    )
    assert kinds(model) == wanted


MATRICES = {
    "bias and relu": (
        "p = MatMul (x, m) a = Add (p, mb) y = Relu (a)",
        ["MatMul integer", "Add absorbed by MatMul", "Relu absorbed by MatMul"],
    ),
    "the bias in front": (
        "p = MatMul (x, m) y = Add (mb, p)",
        ["MatMul integer", "Add absorbed by MatMul"],
    ),
    "two biases": (
        "p = MatMul (x, m) a = Add (p, mb) y = Add (a, mb)",
        ["MatMul integer", "Add absorbed by MatMul", "Add integer"],
    ),
    "an addend that is no bias": (
        "p = MatMul (x, m) y = Add (p, m)",
        ["MatMul integer", "Add integer"],
    ),
    "gemm": ("y = Gemm (x, m, mb)", ["Gemm integer"]),
    "gemm, transposed weight": ("y = Gemm <transB = 1> (x, m, mb)", ["Gemm integer"]),
    "gemm and relu": (
        "a = Gemm <transB = 1> (x, m, mb) y = Relu (a)",
        ["Gemm integer", "Relu absorbed by Gemm"],
    ),
    "gemm with a factor": ("y = Gemm <alpha = 0.5> (x, m, mb)", ["Gemm float"]),
    "gemm with the default factor written out": (
        "y = Gemm <alpha = 1.0, beta = 1.0> (x, m, mb)",
        ["Gemm integer"],
    ),
    "gemm that adds a matrix": ("y = Gemm (x, m, m)", ["Gemm float"]),
    "gemm with a computed weight": ("y = Gemm (x, x, mb)", ["Gemm float"]),
    "a product of two activations": (
        "t = MatMul (x, x) y = Relu (t)",
        ["MatMul integer", "Relu absorbed by MatMul"],
    ),
    "an addend on a product of activations is no bias": (
        "t = MatMul (x, x) y = Add (t, mb)",
        ["MatMul integer", "Add integer"],
    ),
    "a constant in front": ("y = MatMul (m, x)", ["MatMul float"]),
    "constants alone": ("c = MatMul (m, m) y = MatMul (x, c)", ["MatMul float", "MatMul integer"]),
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(name):
    body, wanted = MATRICES[name]
    assert kinds(net(body, "float[8, 8] x")) == wanted


# --- reasons ---------------------------------------------------------------------------------


def test_every_float_node_has_its_reason():
    model = parse(
        "g (float[1, 4, 8, 8] x) => (float[] y) { c = Conv (x, w, b) t = Tanh (c) i = Add (t, k) "
        "u = Abs (w) d = Conv (x, u) n = Clip (d, minus, one) y = MatMul (wide, n) }",
        WEIGHTS | {"wide": rand(1, 4, 8, 8)},
    )
    plan = draft(model)
    assert [f"{n.op}: {n.reason}" for n in plan.nodes.values() if n.mode == FLOAT] == [
        "Tanh: ONNX Runtime has no integer Tanh",
        "Add: its input t comes from Tanh, which is float",
        "Abs: ONNX Runtime has no integer Abs",
        "Conv: its weight u is computed, not constant",
        "Clip: a Clip becomes integer only in the output quantizer of the op before it",
        "MatMul: its operand wide is constant",
    ]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("c = Conv (x, w, b) a = Add (c, k) y = Tanh (a)", "everything that reads it is float"),
        ('y = Resize <mode = "linear"> (x, , k4)', "only nearest-neighbour Resize moves integers"),
        ("y, i = MaxPool <kernel_shape = [2, 2]> (x)", "its further outputs are read"),
        ("p, y = Split <axis = 1> (x, parts)", "one of its outputs is not read"),
        ("d = Cast <to = 11> (x) y = Neg (d)", "Cast is not in the operator table of ort-arm64"),
        ("y = Conv (x, nan)", "its weight nan holds infinities or NaN"),
        ("y = Conv (x, w, inf)", "its bias inf holds infinities or NaN"),
        ("c = Conv (x, w) y = Where (cond, c, mask)", "its operand mask holds 3e+38: next to that"),
        ("c = Conv (x, w) y = Where (cond, c, minf)", "its operand minf holds 1e+09: next to that"),
    ],
)
def test_reasons(body, reason):
    outputs = "float[] y, int64[] i" if "i =" in body else "float[] y"
    constants = WEIGHTS | {
        "k4": np.asarray([1, 1, 2, 2], np.float32),
        "nan": np.full((4, 4, 1, 1), np.nan, np.float32),
        "inf": np.full(4, np.inf, np.float32),
        "cond": np.ones((1, 4, 8, 8), bool),
        "mask": np.float32(-3.4e38),
        "minf": np.float32(-1e9),
    }
    model = parse(f"g ({PICTURE} x) => ({outputs}) {{ {body} }}", constants)
    found = [n.reason for n in draft(model).nodes.values() if n.mode == FLOAT]
    assert any(r.startswith(reason) for r in found), found


def test_a_half_precision_input_stays_float():
    model = parse("g (float16[1, 4] x) => (float16[1, 4] y) { y = Add (x, x) }")
    assert why(draft(model), "n0_Add") == "input x is FLOAT16, not float32"


def test_an_unknown_type_or_rank_stays_float():
    model = net("y = Conv (x, w, b)")
    model.graph.inputs[0].type = None
    assert why(draft(model), "n0_Conv") == "input x is of unknown type, not float32"
    model = net("y = Conv (x, w, b)")
    model.graph.inputs[0].shape = None
    assert why(draft(model), "n0_Conv") == "the rank of its input x is not known"


def test_another_domain_stays_float_and_is_not_absorbed():
    model = net("c = Conv (x, w, b) y = Relu (c)")
    model.graph[1].domain = "com.acme"
    plan = draft(model)
    assert modes(plan) == {"n0_Conv": INT, "n1_Relu": FLOAT}
    assert why(plan, "n1_Relu") == "com.acme.Relu has no integer form here"


def test_nodes_the_caller_wants_float():
    model = net("c = Conv (x, w, b) r = Relu (c) y = Conv (r, w, b)")
    plan = draft(model, float_nodes={"n1_Relu": "asked for", "n2_Conv": "no shapes"})
    assert modes(plan) == {"n0_Conv": INT, "n1_Relu": FLOAT, "n2_Conv": FLOAT}
    assert (why(plan, "n1_Relu"), why(plan, "n2_Conv")) == ("asked for", "no shapes")


def test_a_reader_inside_an_if_is_not_absorbed():
    body = """c = Conv (x, w, b)
        y = If (f) <then_branch = t () => (float[1, 4, 8, 8] t0) { t0 = Relu (c) },
                    else_branch = e () => (float[1, 4, 8, 8] e0) { e0 = Neg (c) }>"""
    assert kinds(net(body, f"{PICTURE} x, bool f")) == ["Conv integer", "If float"]
    only = body.replace("Neg (c)", "Neg (k4)")
    model = parse(
        f"g ({PICTURE} x, bool f) => (float[] y) {{ {only} }}", WEIGHTS | {"k4": rand(1, 4, 8, 8)}
    )
    assert kinds(model) == ["Conv integer", "If float"]


def test_an_island_read_inside_an_if_only():
    body = """c = Conv (x, w, b) a = Add (c, k)
        y = If (f) <then_branch = t () => (float[1, 4, 8, 8] t0) { t0 = Relu (a) },
                    else_branch = e () => (float[1, 4, 8, 8] e0) { e0 = Neg (k4) }>"""
    model = parse(
        f"g ({PICTURE} x, bool f) => (float[] y) {{ {body} }}", WEIGHTS | {"k4": rand(1, 4, 8, 8)}
    )
    assert kinds(model) == ["Conv integer", "Add float", "If float"]


# --- dynamic ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "mode", "reason"),
    [
        ("y = MatMul (x, m)", "dynamic", ""),
        ("y = Gemm <transB = 1> (x, m, mb)", "dynamic", ""),
        ("y = Gemm <transA = 1> (x, m, mb)", FLOAT, "the dynamic kernel does not transpose its"),
        ("y = MatMul (x, x)", FLOAT, "its second operand is computed, not a weight"),
        ("y = MatMul (x, stack)", FLOAT, "its weight is of rank 3; the dynamic kernel takes a"),
        ("y = MatMul (x, mb)", FLOAT, "its weight is of rank 1; the dynamic kernel takes a matrix"),
        ("y = Add (x, x)", FLOAT, "ort-arm64 has no dynamic kernel for Add"),
        ("y = Tanh (x)", FLOAT, "ONNX Runtime has no integer Tanh"),
    ],
)
def test_dynamic(body, mode, reason):
    model = parse(
        f"g (float[8, 8] x) => (float[] y) {{ {body} }}", WEIGHTS | {"stack": rand(2, 8, 8)}
    )
    (entry,) = draft(model, scheme="w8a8-dynamic").nodes.values()
    assert entry.mode == mode
    assert entry.reason.startswith(reason)


@pytest.mark.parametrize(
    ("body", "mode", "reason"),
    [
        ("y = Conv (x, w)", "dynamic", ""),
        ("y = Conv <group = 1> (x, w)", "dynamic", ""),
        (
            "y = Conv <group = 2> (x, halves)",
            FLOAT,
            "tflite-x86 has no dynamic kernel for Conv with",
        ),
        ("y = Conv <group = 4> (x, each)", FLOAT, "tflite-x86 has no dynamic kernel for Conv with"),
        ("y = Conv (x, x)", FLOAT, "its weight x is computed, not constant"),
    ],
)
def test_dynamic_convolutions(body, mode, reason):
    made = {"w": rand(4, 4, 3, 3), "halves": rand(4, 2, 3, 3), "each": rand(4, 1, 3, 3)}
    model = parse(f"g (float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}", made)
    target = load_target("tflite-x86")
    (entry,) = draft(model, target=target, scheme="w8a8-dynamic").nodes.values()
    assert entry.mode == mode
    assert entry.reason.startswith(reason)


# --- other targets, large graphs -------------------------------------------------------------


def without(op: str) -> Target:
    return replace(TARGET, ops={k: v for k, v in TARGET.ops.items() if k != op}, float_ops={})


def test_an_op_without_a_rule():
    model = net("y = Conv (x, w, b)")
    reason = why(draft(model, target=without("Conv")), "n0_Conv")
    assert reason == "Conv is not in the operator table of ort-arm64"


def chain(ops: list[str], readers: int = 1) -> ir.Model:
    body, last = [], "x"
    for index, op in enumerate(ops):
        operand = f", {last}" if op in {"Add", "Mul"} else ""
        body.append(f"v{index} = {op} ({last}{operand})")
        last = f"v{index}"
    return net("\n".join([*body, f"y = Identity ({last})"]))


@pytest.mark.parametrize("ops", [["LeakyRelu"] * 2500, ["Add", "Relu"] * 1250])
@pytest.mark.parametrize("ends", [["Tanh"], []])
def test_time_is_linear_in_the_length_of_a_chain_that_falls(ops, ends):
    model = chain([*ops, *ends])
    start = time.process_time()
    nodes = assign_static(model.graph, TARGET, {}).nodes
    assert time.process_time() - start < 1.0  # 0.04 s; a sweep a node took 8 s
    assert {n.mode for n in nodes.values()} == {FLOAT}


def test_what_holds_no_elements_is_float() -> None:
    """The maximum of nothing is minus infinity, which no integer stands for."""
    text = """g (float[2, 0, 4] x) => (float[2, 1, 4] y) { y = ReduceMax(x, axis) }"""
    model = parse(text, {"axis": np.asarray([1], np.int64)})
    (node,) = model.graph
    assert why(draft(model), node.name) == "input x holds no elements"
