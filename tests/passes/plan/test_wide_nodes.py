"""Single nodes with int16 activations: who may be, and which entries their values have."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.intersection import intersect, unsigned
from qcompile.core.numerics.affine import asymmetric_params, dequantize, limits
from qcompile.core.plan import Chosen, Fixed, QuantParams, QuantPlan, Shared, Widened, chosen_nodes
from qcompile.passes.plan.retype import retyped
from qcompile.passes.plan.scale_ratios import fit_scale_ratios
from qcompile.passes.plan.shared_groups import widened
from qcompile.targets.catalog import load_target
from tests.passes.planning import Planned, draft, pictures, planned, session
from tests.passes.prepare.checking import parse, rand

S8 = load_target("tflite-arm64")
TARGET = unsigned(S8)
WEIGHTS = {
    "w": rand(4, 4, 1, 1), "b": rand(4), "k": rand(1, 4, 1, 1), "six": np.float32(6),
    "zero": np.float32(0), "from": np.asarray([0]), "to": np.asarray([2]), "axis": np.asarray([1]),
}  # fmt: skip


def net(body: str, outputs: str = "float[] y") -> ir.Model:
    return parse(f"g (float[1, 4, 8, 8] x) => ({outputs}) {{ {body} }}", WEIGHTS)


def wide_of(model: ir.Model, *ops: str, target: object = TARGET) -> QuantPlan:
    """A draft in which every node of these ops is to be wide."""
    wanted = {n.name or "": "asked for" for n in model.graph if n.op_type in ops}
    return draft(model, target=target, wide_nodes=wanted)  # type: ignore[arg-type]


def are_wide(plan: QuantPlan) -> list[str]:
    return [node.op for node in plan.nodes.values() if node.activations]


def ties(plan: QuantPlan) -> dict[str, str]:
    """Type and tie of each activation."""
    found = {}
    for name, entry in plan.values.items():
        if entry.role == "activation":
            match entry.relation:
                case Shared(leader):
                    tie = f" shared {leader}"
                case Widened(source):
                    tie = f" of {source}"
                case Fixed():
                    tie = " fixed"
                case _:
                    tie = ""
            found[name] = entry.dtype + tie
    return found


def complete(model: ir.Model, *ops: str) -> Planned:
    wanted = {n.name or "": "asked for" for n in model.graph if n.op_type in ops}
    return planned(model, pictures(1, 4, 8, 8), target=TARGET, wide_nodes=wanted)


# --- which nodes -------------------------------------------------------------------------------


def test_a_wide_node_says_so_and_why() -> None:
    plan = wide_of(net("c = Conv (x, w, b) y = Mul (c, k)"), "Mul")
    node = next(n for n in plan.nodes.values() if n.op == "Mul")
    assert (node.mode, node.activations, node.chosen, node.reason) == (
        "integer", "int16", True, "asked for"
    )  # fmt: skip
    assert chosen_nodes(plan) == Chosen(wide_nodes={node.name: "asked for"})


def test_nothing_leads_back_to_8_bits() -> None:
    body = "c = Conv (x, w) m = Mul (c, k) a = Add (m, k) d = Conv (a, w) y = Mul (d, k)"
    assert are_wide(wide_of(net(body), "Mul", "Add")) == ["Mul"], "the one behind the last Conv"


def test_what_has_no_int16_kernel_stays_8_bit_and_so_does_all_before_it() -> None:
    body = "c = Conv (x, w) m = Mul (c, k) e = Exp (m) y = Mul (e, k)"
    plan = wide_of(net(body), "Mul", "Exp")
    assert [n.activations for n in plan.nodes.values()] == ["", "", "", "int16"]
    assert {n.mode for n in plan.nodes.values()} == {"integer"}


def test_a_float_reader_is_no_obstacle() -> None:
    plan = wide_of(
        net("c = Conv (x, w) m = Mul (c, k) y = Pow (m, six)", "float[] m, float[] y"), "Mul"
    )
    assert are_wide(plan) == ["Mul"]


def test_a_clamp_is_absorbed_by_a_node_of_its_own_width_only() -> None:
    model = net("c = Conv (x, w) m = Add (c, k) y = Relu (m)")
    both = wide_of(model, "Add", "Relu")
    assert [(n.mode, n.activations) for n in both.nodes.values()][1:] == [
        ("integer", "int16"), ("absorbed", "int16")
    ]  # fmt: skip
    clamp = wide_of(model, "Relu")
    assert [(n.mode, n.activations) for n in clamp.nodes.values()][1:] == [
        ("integer", ""), ("integer", "int16")
    ]  # fmt: skip


def test_a_target_without_int16_has_no_wide_nodes() -> None:
    model = net("c = Conv (x, w) y = Mul (c, k)")
    both = intersect([S8, load_target("ort-arm64")])
    for target in (load_target("ort-arm64"), load_target("tflite-micro"), both):
        assert are_wide(wide_of(model, "Mul", target=target)) == []
    assert are_wide(wide_of(model, "Mul", target=intersect([S8, load_target("tflite-x86")])))


# --- their values ------------------------------------------------------------------------------


def test_entries_at_the_border_and_behind_it() -> None:
    plan = wide_of(net("c = Conv (x, w) y = Mul (c, k)"), "Mul")
    assert ties(plan) == {
        "x": "uint8", "c": "uint8", "c as int16": "int16 of c", "k": "int16", "y": "int16",
    }  # fmt: skip


def test_what_floats_made_for_int16_nodes_alone_has_one_quantizer() -> None:
    body = "p = Pow (x, six) c = Conv (p, w) y = Mul (c, k)"
    assert ties(wide_of(net(body), "Conv", "Mul")) == {"p": "int16", "c": "int16", "k": "int16",
                                                       "y": "int16"}  # fmt: skip
    both = f"{body} z = Conv (p, w)"
    plan = wide_of(net(both, "float[] y, float[] z"), "Mul")
    assert ties(plan)["p"] == "uint8"


def test_what_moves_8_bit_numbers_shares_the_border() -> None:
    plan = wide_of(net("c = Conv (x, w) s = Slice (c, from, to, axis) y = Mul (s, s)"),
                   "Slice", "Mul")  # fmt: skip
    assert ties(plan)["s"] == "int16 shared c as int16"
    made = complete(net("c = Conv (x, w) y = Slice (c, from, to, axis)"), "Slice").plan.values
    assert made["c"].params is not None and made["y"].params is not None
    assert float(made["y"].params.scale) * 128 == float(made["c"].params.scale)


def test_a_concat_of_8_bit_values_takes_a_range_of_its_own() -> None:
    model = net("c = Conv (x, w) d = Conv (c, w) y = Concat <axis = 1> (c, d)")
    plan = wide_of(model, "Concat")
    assert ties(plan)["y"] == "int16"
    made = complete(model, "Concat")
    top = max(float(np.abs(session(model).run(feed)[0]).max()) for feed in made.feeds)
    params = made.plan.values["y"].params
    assert params is not None
    assert float(params.scale) * 32767 >= top * (1 - 1e-6)


def test_a_constant_that_8_bit_nodes_read_too_has_two_grids() -> None:
    model = net("c = Conv (x, w) m = Add (x, k) d = Add (c, m) y = Mul (d, k)")
    plan = wide_of(model, "Mul")
    assert ties(plan)["k"] == "uint8"
    assert ties(plan)["k as int16"] == "int16"
    made = complete(model, "Mul").plan.values["k as int16"].params
    assert made is not None
    assert int(made.zero_point) == 0
    assert np.isclose(float(made.scale), np.abs(WEIGHTS["k"]).max() / 32767)


def test_kernels_that_set_their_output_do_so_in_int16() -> None:
    plan = wide_of(net("c = Conv (x, w) y = Sigmoid (c)"), "Sigmoid")
    params = plan.values["y"].params
    assert params is not None
    assert (float(params.scale), int(params.zero_point)) == (2.0**-15, 0)


def test_a_raised_scale_takes_the_border_with_it() -> None:
    made = complete(net("c = Conv (x, w) y = Mul (c, k)"), "Mul")
    plan, old = made.plan, made.plan.values["c"]
    assert old.params is not None
    tiny = QuantParams(np.float32(old.params.scale / 1e5), old.params.zero_point)
    plan.values["c"] = old.with_params(tiny)
    assert fit_scale_ratios(made.model.graph, plan, TARGET)
    after, border = plan.values["c"].params, plan.values["c as int16"].params
    assert after is not None and border is not None
    assert border.same_as(widened(after))


def test_the_type_of_a_target_changes_8_bit_values_alone() -> None:
    plan = complete(net("c = Conv (x, w) y = Mul (c, k)"), "Mul").plan
    signed = retyped(plan, S8, "int8")
    for name, entry in plan.values.items():
        other = signed.values[name]
        if entry.dtype == "uint8":
            assert other.dtype == "int8"
        else:
            assert other is entry
    back = retyped(signed, replace(S8, activations=TARGET.activations), "uint8")
    assert {n: e.dtype for n, e in back.values.items()} == {
        n: e.dtype for n, e in plan.values.items()
    }


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["uint8", "int8"]), st.floats(-1e3, 1e3), st.floats(1e-3, 1e3))
def test_no_number_is_lost_at_the_border(dtype: str, low: float, span: float) -> None:
    """``s * (q - z) = (s / 128) * (128 * (q - z))`` for every integer, in int16."""
    params = QuantParams(*asymmetric_params(np.asarray(low), np.asarray(low + span), dtype))
    wide = widened(params)
    first, last = limits(dtype)
    integers = np.arange(first, last + 1)
    wider = 128 * (integers - int(params.zero_point))
    assert np.abs(wider).max() <= 32767
    narrow = dequantize(integers, params.scale, params.zero_point)
    np.testing.assert_array_equal(dequantize(wider, wide.scale, wide.zero_point), narrow)
