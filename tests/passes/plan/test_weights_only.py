"""Which weights are stored in which groups, what is tied, and why everything else stays float."""

from dataclasses import replace

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.plan import Shared
from tests.passes.prepare.checking import parse, rand
from tests.passes.stored import TARGET, decoder, moved, planned


def test_products_and_tables_are_stored_and_the_tied_one_takes_after_the_head():
    plan = planned(decoder(), complete=False)
    modes = {n.op: n.mode for n in plan.nodes.values()}
    assert modes == {"Gather": "weights", "MatMul": "weights", "Tanh": "float", "Gemm": "weights"}
    entries = {n: (v.dtype, v.axis, v.group) for n, v in plan.values.items()}
    assert entries == {
        "table": ("uint4", 1, 32),
        "w": ("uint4", 0, 32),
        "v": ("uint4", 1, 32),
        "head": ("uint4", 0, 32),
        "tied": ("uint4", 0, 32),
    }
    assert {n: v.relation for n, v in plan.values.items() if v.relation} == {
        "table": Shared("tied")
    }


def test_a_table_with_other_numbers_is_not_tied():
    model = decoder()
    other = np.zeros((64, 60), np.float32)
    other[3, 59] = 1
    moved(model, "tied", other)
    assert planned(model, complete=False).values["table"].relation is None


REFUSED = {
    "c = Conv (x, w)": "ONNX Runtime has no convolution of floats with integers as weights",
    "c = Tanh (x)": "Tanh reads no weight",
    "c = Mul (x, w)": "ort-x86-vnni has no kernel for Mul that reads integers as weights",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_has_no_kernel_says_so(line):
    body = f"g (float[1, 32, 64, 1] x) => (float[a, b, c, d] y) {{ {line} y = Identity (c) }}"
    plan = planned(parse(body, {"w": rand(64, 32, 1, 1)}))
    assert next(iter(plan.nodes.values())).reason == REFUSED[line]
    assert not plan.values


@pytest.mark.parametrize(
    ("weight", "reason"),
    [
        (rand(16, 16), "too few for their bytes to matter"),
        (np.full((64, 64), np.inf, np.float32), "holds infinities"),
    ],
)
def test_weights_that_stay(weight, reason):
    body = f"g (float[n, {len(weight)}] x) => (float[n, m] y) {{ y = MatMul (x, w) }}"
    plan = planned(parse(body, {"w": weight}))
    assert reason in next(iter(plan.nodes.values())).reason


def test_a_matrix_that_is_read_along_both_axes_is_stored_for_the_first():
    body = """g (float[n, 64] x) => (float[n, 64] y) {
        a = MatMul (x, w)
        y = Gemm <transB = 1> (a, w)
    }"""
    plan = planned(parse(body, {"w": rand(64, 64)}))
    assert [n.mode for n in plan.nodes.values()] == ["weights", "float"]
    assert "along its other axis" in list(plan.nodes.values())[1].reason


def test_nodes_that_must_stay_float_do():
    model = decoder()
    name = next(n.name or "" for n in model.graph if n.op_type == "Gemm")
    plan = planned(model, float_nodes={name: "asked for"})
    assert (plan.nodes[name].mode, plan.nodes[name].reason) == ("float", "asked for")
    assert plan.nodes[name].chosen
    assert "v" not in plan.values


@pytest.mark.parametrize(
    ("bits", "group", "granularity", "expected"),
    [
        (4, None, None, 32),
        (8, None, None, 64),
        (4, 16, None, 16),
        (4, 96, None, 72),  # longer than K: all of a column
        (4, None, "channel", 72),
    ],
)
def test_groups(bits, group, granularity, expected):
    plan = planned(decoder(), bits, group, granularity=granularity)
    assert plan.values["v"].group == expected


@pytest.mark.parametrize(("bits", "group"), [(4, 20), (2, 16), (8, 8)])
def test_groups_that_no_kernel_takes_are_refused(bits, group):
    with pytest.raises(QCompileError, match="have a scale for") as caught:
        planned(decoder(), bits, group)
    assert caught.value.code is Code.BAD_OPTION


def test_one_scale_a_tensor_is_refused():
    with pytest.raises(QCompileError, match="a scale a column at least"):
        planned(decoder(), granularity="tensor")


def test_a_target_without_groups_has_a_scale_a_column():
    weights = replace(TARGET.under("w4").weights, granularity=("channel",))
    target = replace(TARGET, variants={"w4": replace(TARGET.under("w4"), weights=weights)})
    assert planned(decoder(), group=None, target=target).values["w"].group == 64


def test_rows_that_are_no_whole_blocks_stay():
    body = "g (int64[n] i) => (float[n, 72] y) { y = Gather (t, i) }"
    plan = planned(parse(body, {"t": rand(60, 72)}))
    assert next(iter(plan.nodes.values())).reason == "its rows of 72 are no whole blocks of 16"
