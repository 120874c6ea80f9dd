"""Stored weights as DequantizeLinear: K x N for products, N x K for look-ups."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core.numerics.grouped import from_codes
from qcompile.core.stored import as_columns
from qcompile.passes.quantize.insert_stored import InsertStored
from qcompile.passes.rounding.stored_choice import stored_codes
from tests.passes.prepare.checking import inits, ops, unchanged
from tests.passes.stored import decoder, planned
from tests.targets.onnxruntime.running import run_plain

FEEDS = {"i": np.asarray([3, 59, 0], np.int64)}


def replaced(model: ir.Model, plan) -> ir.Model:
    """The float graph with every stored weight as its codes stand for it."""
    other = model.clone()
    for name, entry in plan.values.items():
        value = other.graph.initializers[name]
        codes = stored_codes(value.const_value.numpy(), entry, plan.rounded.get(name))
        real = as_columns(from_codes(codes, entry.params, entry.group), entry.axis)
        value.const_value = ir.Tensor(np.ascontiguousarray(real))
    return other


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize(("group", "granularity"), [(32, None), (64, None), (None, "channel")])
@pytest.mark.parametrize("symmetric", [True, False])
def test_it_computes_with_what_the_codes_stand_for(bits, group, granularity, symmetric):
    model = decoder()
    plan = planned(model, bits, group, granularity=granularity, symmetric=symmetric)
    wanted = run_plain(replaced(model, plan), FEEDS)
    qdq = model.clone()
    assert InsertStored(plan)(qdq).modified
    onnx.checker.check_model(ir.to_proto(qdq), full_check=True)
    for a, b in zip(wanted, run_plain(qdq, FEEDS), strict=True):
        assert np.abs(a - b).max() <= 3e-6 * np.abs(a).max()
    unchanged(InsertStored(plan), qdq)


def test_the_form_that_runtimes_merge():
    model = decoder()
    qdq = model.clone()
    InsertStored(planned(model))(qdq)
    assert ops(qdq).count("DequantizeLinear") == 5
    assert "Transpose" not in ops(qdq)
    gemm = next(n for n in qdq.graph if n.op_type == "Gemm")
    assert "transB" not in gemm.attributes
    found = inits(qdq)
    assert found["v_quantized"].shape == (72, 80)
    assert found["v_scale"].shape == (3, 80)
    assert found["table_quantized"].shape == (60, 64)
    assert found["table_scale"].shape == (60, 2)
    assert {"table", "w", "v", "head", "tied"}.isdisjoint(found)
    blocks = {
        n.inputs[0].name: (n.attributes["axis"].as_int(), n.attributes["block_size"].as_int())
        for n in qdq.graph
        if n.op_type == "DequantizeLinear"
    }
    assert blocks["v_quantized"] == (0, 32)
    assert blocks["table_quantized"] == (1, 32)


@pytest.mark.parametrize(("bits", "opset"), [(2, 25), (3, 21), (4, 21), (8, 21)])
def test_the_opset_that_has_the_types(bits, opset):
    model = decoder()
    model.opset_imports[""] = 17
    InsertStored(planned(model, bits))(model)
    assert model.opset_imports[""] == opset


def test_a_float_node_keeps_its_weight():
    model = decoder()
    name = next(n.name or "" for n in model.graph if n.op_type == "Gemm")
    InsertStored(planned(model, float_nodes={name: "asked for"}))(model)
    assert "v" in model.graph.initializers
