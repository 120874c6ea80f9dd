"""Where quantizers go, rule by rule: graphs given as text, and the graphs that come of them."""

import time
from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core import graph as g
from qcompile.core.plan import NodePlan, QuantParams, QuantPlan
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.values import resolve_shared
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import VALUE_KEY, InsertQDQ
from tests.passes.planning import EXECUTOR, TARGET, draft
from tests.passes.prepare.checking import parse, rand

PICTURE = "float[1, 4, 8, 8]"
WEIGHTS = {
    "w": rand(4, 4, 1, 1),
    "b": rand(4),
    "k": rand(1, 4, 1, 1),
    "m": rand(8, 8),
    "mb": rand(8),
    "zero": np.float32(0),
    "six": np.float32(6),
    "parts": np.asarray([2, 2], np.int64),
}


def net(body: str, inputs: str = f"{PICTURE} x", outputs: str = "float[] y") -> ir.Model:
    return parse(f"g ({inputs}) => ({outputs}) {{ {body} }}", WEIGHTS)


def any_params(model: ir.Model, plan: QuantPlan) -> QuantPlan:
    """Give every activation parameters of its own, in the order of the plan."""
    for index, (name, entry) in enumerate(plan.values.items()):
        if entry.role == "activation" and entry.params is None:
            scale = np.asarray(2.0**-7 * (index + 1), np.float32)
            zero = 0 if _behind_clamp(model, name) else index
            params = QuantParams(scale, np.asarray(zero, np.int64))
            plan.values[name] = entry.with_params(params)
    choose_weights(model.graph, plan, TARGET)
    resolve_shared(plan)
    fit_biases(model.graph, plan)
    return plan


def _behind_clamp(model: ir.Model, name: str) -> bool:
    return any(
        node.op_type in {"Relu", "Clip"} and node.outputs[0].name == name for node in model.graph
    )


def inserted(
    model: ir.Model, ends: Sequence[str] = (), scheme: str = "w8a8", **options: object
) -> ir.Model:
    """The QDQ graph, held to what the pass promises of every graph."""
    plan = any_params(
        model, draft(model, scheme=scheme, ends="uint8" if ends else "float", **options)
    )
    names = [(v.name, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]
    run = InsertQDQ(plan, frozenset(ends))
    assert run(model).modified
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    assert [(v.name, v.shape) for v in (*model.graph.inputs, *model.graph.outputs)] == names
    values = [v.name for v in g.values(model.graph)]
    assert len(values) == len(set(values))
    assert all(
        node.name and g.PASS_KEY in node.metadata_props
        for node in model.graph
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}
    )
    once = g.fingerprint(model)
    assert not run(model).modified
    assert g.fingerprint(model) == once
    EXECUTOR.load(model, optimize=False)
    return model


def lines(model: ir.Model) -> list[str]:
    """One line a node, those of constants first; of a quantizer, what it quantizes."""
    short = {"QuantizeLinear": "Q", "DequantizeLinear": "DQ", "DynamicQuantizeLinear": "DynQ"}
    found = []
    for node in model.graph:
        op = short.get(node.op_type, node.op_type)
        inputs = [v.name if v is not None else "" for v in node.inputs]
        given = inputs[:1] if op in {"Q", "DQ"} else inputs
        found.append(f"{node.outputs[0].name} = {op}({', '.join(map(str, given))})")
    return constants_first(found)


def constants_first(found: Sequence[str]) -> list[str]:
    """They may stand anywhere before their reader; the checker sees to that."""
    return sorted(found, key=lambda line: line.split("_dequantized = DQ(")[0] not in WEIGHTS)


GOLDEN: dict[str, tuple[str, list[str]]] = {
    "a layer and its clamp": (
        "c = Conv (x, w, b) y = Relu (c)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "b_dequantized = DQ(b_quantized)",
            "c = Conv(x_dequantized, w_dequantized, b_dequantized)",
            "y_float = Relu(c)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
    "an input that floats read too keeps its exact value for them": (
        "c = Conv (x, w) t = Tanh (x) y = Sub (t, c)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "t = Tanh(x)",
            "y = Sub(t, c_dequantized)",
        ],
    ),
    "what an integer node made is read dequantized by everyone": (
        "c = Conv (x, w) t = Tanh (c) y = Conv (c, w)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "t = Tanh(c_dequantized)",
            "y_float = Conv(c_dequantized, w_dequantized)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
    "what a float node made is quantized for integer readers only": (
        "t = Tanh (x) c = Conv (t, w) y = Sub (t, c)",
        [
            "w_dequantized = DQ(w_quantized)",
            "t = Tanh(x)",
            "t_quantized = Q(t)",
            "t_dequantized = DQ(t_quantized)",
            "c = Conv(t_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "y = Sub(t, c_dequantized)",
        ],
    ),
    "a value twice in one node": (
        "c = Conv (x, w) y = Mul (c, c)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "y_float = Mul(c_dequantized, c_dequantized)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
    "a constant operand, and a weight that a float node reads too": (
        "c = Conv (x, w) a = Add (c, k) t = Mul (w, f) y = Conv (a, w)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "k_dequantized = DQ(k_quantized)",
            "a = Add(c_dequantized, k_dequantized)",
            "a_quantized = Q(a)",
            "a_dequantized = DQ(a_quantized)",
            "t = Mul(w, f)",
            "y_float = Conv(a_dequantized, w_dequantized)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
    "each output of a split": (
        "c = Conv (x, w) s, t = Split <axis = 1> (c, parts) y = Add (s, t)",
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "c_quantized = Q(c)",
            "c_dequantized = DQ(c_quantized)",
            "s = Split(c_dequantized, parts)",
            "t_quantized = Q(t)",
            "t_dequantized = DQ(t_quantized)",
            "s_quantized = Q(s)",
            "s_dequantized = DQ(s_quantized)",
            "y_float = Add(s_dequantized, t_dequantized)",
            "y_quantized = Q(y_float)",
            "y = DQ(y_quantized)",
        ],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_static(name):
    body, wanted = GOLDEN[name]
    model = parse(f"g ({PICTURE} x) => (float[] y) {{ {body} }}", WEIGHTS | {"f": rand(1)})
    assert lines(inserted(model)) == constants_first(wanted)


def test_an_output_that_is_also_read():
    model = net("c = Conv (x, w) y = Conv (c, w)", outputs="float[] c, float[] y")
    assert lines(inserted(model))[3:] == [
        "c_float = Conv(x_dequantized, w_dequantized)",
        "c_quantized = Q(c_float)",
        "c = DQ(c_quantized)",
        "y_float = Conv(c, w_dequantized)",
        "y_quantized = Q(y_float)",
        "y = DQ(y_quantized)",
    ]


def test_an_output_listed_twice():
    model = net("y = Conv (x, w)")
    model.graph.outputs.append(model.graph.outputs[0])
    plan = any_params(model, draft(model))
    InsertQDQ(plan)(model)
    assert [v.name for v in model.graph.outputs] == ["y", "y"]
    assert model.graph.outputs[0] is model.graph.outputs[1]
    assert model.graph.outputs[0].producer().op_type == "DequantizeLinear"


def test_an_output_made_by_a_float_node_keeps_its_exact_value():
    model = net("t = Tanh (x) y = Conv (t, w)", outputs="float[] t, float[] y")
    assert "t = Tanh(x)" in lines(inserted(model))


def test_an_output_left_unquantized_where_the_kernel_gives_floats():
    model = parse("g (float[8, 8] x) => (float[] y) { y = MatMul (x, m) }", WEIGHTS)
    assert lines(inserted(model)) == constants_first(
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "m_dequantized = DQ(m_quantized)",
            "y = MatMul(x_dequantized, m_dequantized)",
        ]
    )


def test_the_bias_of_a_product_is_that_of_its_add():
    body = "p = MatMul (x, m) a = Add (mb, p) y = Relu (a)"
    model = parse(f"g (float[8, 8] x) => (float[] y) {{ {body} }}", WEIGHTS)
    assert lines(inserted(model, ends=["y"])) == constants_first(
        [
            "x_quantized = Q(x)",
            "x_dequantized = DQ(x_quantized)",
            "m_dequantized = DQ(m_quantized)",
            "mb_dequantized = DQ(mb_quantized)",
            "p = MatMul(x_dequantized, m_dequantized)",
            "a = Add(mb_dequantized, p)",
            "y_float = Relu(a)",
            "y = Q(y_float)",
        ]
    )
    assert model.graph.initializers["mb_quantized"].dtype == ir.DataType.INT32


def test_a_product_of_two_activations():
    body = "p = MatMul (x, x) s = Softmax (p) y = MatMul (s, x)"
    model = inserted(parse(f"g (float[8, 8] x) => (float[] y) {{ {body} }}", WEIGHTS))
    assert [line for line in lines(model) if "MatMul" in line] == [
        "p = MatMul(x_dequantized, x_dequantized)",
        "y = MatMul(s_dequantized, x_dequantized)",
    ]


def test_a_bound_of_a_clip_stays_what_it_is_though_another_node_quantizes_it():
    body = "c = Conv (x, w) r = Clip (c, zero, six) a = Mul (r, six) y = Conv (a, w)"
    model = inserted(net(body))
    assert "r = Clip(c, zero, six)" in lines(model)
    assert "a = Mul(r_dequantized, six_dequantized)" in lines(model)


def test_the_body_of_an_if_reads_the_dequantized_value():
    body = """c = Conv (x, w)
        y = If (f) <then_branch = t () => (float[1, 4, 8, 8] t0) { t0 = Tanh (c) },
                    else_branch = e () => (float[1, 4, 8, 8] e0) { e0 = Neg (c) }>"""
    model = inserted(net(body, f"{PICTURE} x, bool f"))
    conditional = model.graph[-1]
    bodies = [conditional.attributes[k].as_graph() for k in ("then_branch", "else_branch")]
    assert [inner[0].inputs[0].name for inner in bodies] == ["c_dequantized", "c_dequantized"]


def test_a_subgraph_that_reads_an_input_keeps_the_exact_value():
    body = """c = Conv (x, w)
        y = If (f) <then_branch = t () => (float[1, 4, 8, 8] t0) { t0 = Tanh (x) },
                    else_branch = e () => (float[1, 4, 8, 8] e0) { e0 = Neg (c) }>"""
    model = inserted(net(body, f"{PICTURE} x, bool f"))
    assert model.graph[-1].attributes["then_branch"].as_graph()[0].inputs[0].name == "x"


# --- integer ends ----------------------------------------------------------------------------


def test_integer_ends():
    model = inserted(net("c = Conv (x, w) y = Relu (c)"), ends=["x", "y"])
    assert lines(model) == constants_first(
        [
            "x_dequantized = DQ(x)",
            "w_dequantized = DQ(w_quantized)",
            "c = Conv(x_dequantized, w_dequantized)",
            "y_float = Relu(c)",
            "y = Q(y_float)",
        ]
    )
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.UINT8] * 2


def test_an_integer_input_is_dequantized_for_float_readers_too():
    model = inserted(net("c = Conv (x, w) t = Tanh (x) y = Sub (t, c)"), ends=["x"])
    assert "t = Tanh(x_dequantized)" in lines(model)


def test_an_integer_output_that_is_also_read():
    model = net("c = Conv (x, w) y = Conv (c, w)", outputs="float[] c, float[] y")
    assert lines(inserted(model, ends=["c", "y"]))[3:] == [
        "c_float = Conv(x_dequantized, w_dequantized)",
        "c = Q(c_float)",
        "c_dequantized = DQ(c)",
        "y_float = Conv(c_dequantized, w_dequantized)",
        "y = Q(y_float)",
    ]


def test_an_integer_output_made_by_a_float_node():
    model = net("t = Tanh (x) y = Conv (t, w)", outputs="float[] t, float[] y")
    found = lines(inserted(model, ends=["t", "y"]))
    assert found[1:4] == ["t_float = Tanh(x)", "t = Q(t_float)", "t_dequantized = DQ(t)"], found


def test_an_input_that_is_an_output_too_keeps_its_name():
    model = net("y = Conv (x, w)", outputs="float[] y")
    model.graph.outputs.append(model.graph.inputs[0])
    plan = any_params(model, draft(model, ends="uint8"))
    InsertQDQ(plan, frozenset({"x", "y"}))(model)
    assert [v.name for v in model.graph.inputs] == ["x"]
    assert [v.name for v in model.graph.outputs] == ["y", "x"]
    assert model.graph.outputs[1] is model.graph.inputs[0]
    assert model.graph.inputs[0].dtype == ir.DataType.UINT8


# --- dynamic ---------------------------------------------------------------------------------


def test_dynamic_nodes_share_a_quantizer():
    body = "p = MatMul (x, m) q = Gemm (x, m, mb) a = Add (p, q) y = MatMul (a, m)"
    model = parse(f"g (float[8, 8] x) => (float[] y) {{ {body} }}", WEIGHTS)
    assert lines(inserted(model, scheme="w8a8-dynamic")) == constants_first(
        [
            "m_dequantized = DQ(m_quantized)",
            "x_quantized = DynQ(x)",
            "x_dequantized = DQ(x_quantized)",
            "p = MatMul(x_dequantized, m_dequantized)",
            "q = Gemm(x_dequantized, m_dequantized, mb)",
            "a = Add(p, q)",
            "a_quantized = DynQ(a)",
            "a_dequantized = DQ(a_quantized)",
            "y = MatMul(a_dequantized, m_dequantized)",
        ]
    )


# --- what is written down --------------------------------------------------------------------


def test_parameters_and_notes():
    model = net("c = Conv (x, w, b) a = Add (c, k) y = Conv (a, w, b2)")
    model = parse(
        f"g ({PICTURE} x) => (float[] y) {{ c = Conv (x, w, b) a = Add (c, k) "
        "y = Conv (a, w, b2) }",
        WEIGHTS | {"b2": rand(4)},
    )
    plan = any_params(model, draft(model))
    plan.corrections["b"] = np.asarray([1, -1, 0, 2], np.float32)
    plan.rounded["w"] = np.arange(16, dtype=np.int8).reshape(4, 4, 1, 1)
    floats = {name: v.const_value.numpy() for name, v in model.graph.initializers.items()}
    InsertQDQ(plan)(model)
    constants = {name: v.const_value.numpy() for name, v in model.graph.initializers.items()}
    for node in model.graph:
        if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        name = node.outputs[0].name.rsplit("_", 1)[0] if node.outputs[0].name != "y" else "y"
        params = plan.values[name].params
        scale = constants[node.inputs[1].name]
        assert params is not None
        assert np.array_equal(scale, params.scale)
        if plan.values[name].role == "bias":
            assert len(node.inputs) == 2
        else:
            zero = constants[node.inputs[2].name]
            assert np.array_equal(zero, params.zero_point)
            assert zero.dtype == plan.values[name].dtype
        assert g.attribute_int(node, "axis", -9) == (
            -9 if scale.ndim == 0 else plan.values[name].axis
        )
        if node.op_type == "QuantizeLinear":
            assert node.metadata_props[VALUE_KEY] == name
    assert np.array_equal(constants["w_quantized"], plan.rounded["w"])
    bias = plan.values["b"].params
    assert bias is not None
    wanted = np.rint((floats["b"].astype(np.float64) + plan.corrections["b"]) / bias.scale)
    assert np.array_equal(constants["b_quantized"], wanted.astype(np.int32))
    assert not {"w", "b", "b2", "k"} & constants.keys()  # nobody reads the floats any more


def test_each_node_knows_whose_work_it_does():
    model = inserted(net("c = Conv (x, w, b) y = Relu (c)"))
    by_name = {node.outputs[0].name: node for node in model.graph}
    assert g.sources(by_name["w_dequantized"]) == ("n0_Conv",)
    assert g.sources(by_name["b_dequantized"]) == ("n0_Conv",)
    assert g.sources(by_name["y_quantized"]) == ("n1_Relu",)


def test_names_that_are_taken_are_left_to_their_owners():
    body = "x_quantized = Tanh (x) c = Conv (x, w) y = Sub (c, x_quantized)"
    model = inserted(net(body))
    assert "x_quantized = Tanh(x)" in lines(model)
    assert "x_quantized_1 = Q(x)" in lines(model)


def test_an_empty_plan_changes_nothing():
    constants = {"w": WEIGHTS["w"], "b": WEIGHTS["b"]}
    model = parse(f"g ({PICTURE} x) => (float[] y) {{ y = Conv (x, w, b) }}", constants)
    before = g.fingerprint(model)
    assert not InsertQDQ(QuantPlan("f", "t", "float"))(model).modified
    assert g.fingerprint(model) == before


def test_the_flag_is_exact_where_only_a_constant_goes():
    model = net("y = Tanh (x)")
    assert "w" in model.graph.initializers
    plan = QuantPlan("f", "t", "w8a8", nodes={"n0_Tanh": NodePlan("n0_Tanh", "Tanh", "float")})
    assert InsertQDQ(plan)(model).modified
    assert not model.graph.initializers
    assert not InsertQDQ(plan)(model).modified


def test_a_clone_is_written_and_the_original_kept():
    model = net("c = Conv (x, w, b) y = Relu (c)")
    plan = any_params(model, draft(model))
    before = g.fingerprint(model)
    InsertQDQ(plan)(model.clone())
    assert g.fingerprint(model) == before


def test_time_is_linear_in_the_number_of_nodes():
    body, last = [], "x"
    for index in range(600):
        body.append(
            f"c{index} = Conv (x, w) r{index} = Relu (c{index}) a{index} = Add (r{index}, {last})"
        )
        last = f"a{index}"
    model = net("\n".join([*body, f"y = Identity ({last})"]))
    plan = any_params(model, draft(model))
    start = time.process_time()
    InsertQDQ(plan)(model)
    assert time.process_time() - start < 2.0  # 0.2 s
