"""What InsertQDQ writes down: scales, integers, names, sources; and what it leaves."""

import time

import numpy as np

from qcompile.core import graph as g
from qcompile.core.plan import NodePlan, QuantPlan
from qcompile.passes.quantize.insert_qdq import VALUE_KEY, InsertQDQ
from tests.passes.planning import draft
from tests.passes.prepare.checking import parse, rand
from tests.passes.quantize.inserting import (
    PICTURE,
    WEIGHTS,
    any_params,
    inserted,
    lines,
    net,
)


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
