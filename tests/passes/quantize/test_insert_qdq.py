"""Where quantizers go, rule by rule: graphs given as text, and the graphs that come of them."""

import onnx_ir as ir
import pytest

from qcompile.passes.quantize.insert_qdq import InsertQDQ
from tests.passes.planning import draft
from tests.passes.prepare.checking import parse, rand
from tests.passes.quantize.inserting import (
    PICTURE,
    WEIGHTS,
    any_params,
    constants_first,
    inserted,
    lines,
    net,
)

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
