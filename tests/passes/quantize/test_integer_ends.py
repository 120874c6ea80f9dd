"""Ends that are exchanged as integers, and activations that are quantized as the model runs."""

import onnx_ir as ir

from qcompile.passes.quantize.insert_qdq import InsertQDQ
from tests.passes.planning import draft
from tests.passes.prepare.checking import parse
from tests.passes.quantize.inserting import (
    WEIGHTS,
    any_params,
    constants_first,
    inserted,
    lines,
    net,
)


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
