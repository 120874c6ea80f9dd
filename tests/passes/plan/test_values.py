"""Which values carry parameters, of which type, and what ties them to each other."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.plan import Derived, Fixed, QuantParams, QuantPlan, Shared
from qcompile.core.target import Numbers, Target
from qcompile.passes.plan.activations import choose_activations, observed_values, range_request
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.passes.plan.shared_groups import resolve_shared
from tests.passes.planning import TARGET, draft
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
    "shape": np.asarray([1, 4, 64], np.int64),
}
EQUAL_CONCAT = replace(
    TARGET, ops={**TARGET.ops, "Concat": replace(TARGET.ops["Concat"], same_parameters=True)}
)
"""A target whose Concat cannot requantize."""


def net(body: str, inputs: str = f"{PICTURE} x", outputs: str = "float[] y") -> ir.Model:
    return parse(f"g ({inputs}) => ({outputs}) {{ {body} }}", WEIGHTS)


def entries(plan: QuantPlan) -> list[str]:
    """``name role`` of every entry in order, with what it is tied to."""
    found = []
    for name, entry in plan.values.items():
        match entry.relation:
            case Shared(leader):
                tie = f" shared {leader}"
            case Derived(activation, weight):
                tie = f" = {activation} * {weight}"
            case Fixed(op):
                tie = f" fixed {op}"
            case _:
                tie = ""
        found.append(f"{name} {entry.role}{tie}")
    return found


GOLDEN = {
    "a layer": (
        "y = Conv (x, w, b)",
        ["x activation", "y activation", "w weight", "b bias = x * w"],
    ),
    "nothing between a layer and what it absorbs": (
        "c = Conv (x, w, b) r = Clip (c, zero, six) y = Conv (r, w)",
        ["x activation", "r activation", "w weight", "b bias = x * w", "y activation"],
    ),
    "the output of a float node that integers read": (
        "t = Tanh (x) y = Conv (t, w)",
        ["t activation", "y activation", "w weight"],
    ),
    "moving integers": (
        "c = Conv (x, w) p = MaxPool <kernel_shape = [2, 2]> (c) "
        "t = Transpose <perm = [0, 2, 3, 1]> (p) y = Neg (t)",
        [
            "x activation",
            "c activation",
            "w weight",
            "p activation shared c",
            "t activation shared c",
        ],
    ),
    "both halves of a split": (
        "c = Conv (x, w) s, t = Split <axis = 1> (c, parts) y = Add (s, t)",
        [
            "x activation",
            "c activation",
            "w weight",
            "s activation shared c",
            "t activation shared c",
            "y activation",
        ],
    ),
    "a fixed output, and what moves it": (
        "c = Conv (x, w) s = Sigmoid (c) p = MaxPool <kernel_shape = [2, 2]> (s) y = Conv (p, w)",
        [
            "x activation",
            "c activation",
            "w weight",
            "s activation fixed Sigmoid",
            "p activation shared s",
            "y activation",
        ],
    ),
    "a concat that requantizes": (
        "a = Conv (x, w) y = Concat <axis = 1> (a, x)",
        ["x activation", "a activation", "w weight", "y activation"],
    ),
    "a constant operand": (
        "c = Conv (x, w) y = Mul (c, k)",
        ["x activation", "c activation", "w weight", "k activation", "y activation"],
    ),
    "two layers with one weight": (
        "c = Conv (x, w) y = Conv (c, w)",
        ["x activation", "c activation", "w weight", "y activation"],
    ),
    "a value twice in one node": (
        "c = Conv (x, w) y = Mul (c, c)",
        ["x activation", "c activation", "w weight", "y activation"],
    ),
    "all float": ("y = Tanh (x)", []),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_values(name):
    body, wanted = GOLDEN[name]
    assert entries(draft(net(body))) == wanted


MATRICES = {
    "a product with its bias": (
        "p = MatMul (x, m) a = Add (mb, p) y = Gemm (a, m, mb2)",
        "float",
        ["x activation", "a activation", "m weight", "mb bias = x * m", "mb2 bias = a * m"],
    ),
    "two activations": (
        "p = MatMul (x, x) s = Softmax (p) y = MatMul (s, x)",
        "float",
        ["x activation", "p activation", "s activation fixed Softmax"],
    ),
    "an output that stays float": (
        "p = MatMul (x, m) y = Tanh (p)",
        "float",
        ["x activation", "m weight"],
    ),
    "an output that a quantizer must clamp": (
        "p = MatMul (x, m) r = Relu (p) y = Tanh (r)",
        "float",
        ["x activation", "r activation", "m weight"],
    ),
    "an output with a float and an integer reader": (
        "p = MatMul (x, m) t = Tanh (p) q = MatMul (p, m) y = Add (q, t)",
        "float",
        ["x activation", "p activation", "m weight"],
    ),
    "the end of an integer model": (
        "y = MatMul (x, m)",
        "uint8",
        ["x activation", "y activation", "m weight"],
    ),
}


@pytest.mark.parametrize("name", MATRICES)
def test_matrices(name):
    body, ends, wanted = MATRICES[name]
    model = parse(f"g (float[8, 8] x) => (float[] y) {{ {body} }}", WEIGHTS | {"mb2": rand(8)})
    assert entries(draft(model, ends=ends)) == wanted


def test_types_and_symmetry_come_from_the_target():
    target = replace(
        TARGET,
        activations=Numbers("int16", symmetric=True),
        weights=Numbers("int8", symmetric=True),
        bias=Numbers("int32", symmetric=True),
    )
    plan = draft(net("y = Conv (x, w, b)"), target=target)
    assert {(e.dtype, e.symmetric) for e in plan.values.values() if e.role == "activation"} == {
        ("int16", True)
    }
    assert (plan.values["w"].dtype, plan.values["b"].dtype) == ("int8", "int32")


def test_fixed_parameters_are_those_of_the_kernel():
    plan = draft(net("c = Conv (x, w) y = Softmax <axis = 1> (c)"))
    entry = plan.quantized("y")
    assert entry is not None and entry.params is not None
    assert (float(entry.params.scale), int(entry.params.zero_point)) == (1 / 256, 0)
    assert (entry.rule, entry.reason) == ("fixed", "the integer Softmax kernel sets it")


def test_dynamic_layers_have_weights_only():
    plan = draft(net("p = MatMul (x, m) y = Add (p, mb)", "float[8, 8] x"), scheme="w8a8-dynamic")
    assert entries(plan) == ["m weight"]


# --- groups of shared parameters -------------------------------------------------------------


def shared(body: str) -> dict[str, str]:
    plan = draft(net(body), target=EQUAL_CONCAT)
    found = {}
    for name, entry in plan.values.items():
        if isinstance(entry.relation, Shared):
            found[name] = entry.relation.leader
            assert not isinstance(plan.values[entry.relation.leader].relation, Shared)
    return found


def test_a_concat_joins_the_groups_of_its_inputs_whole():
    # p takes after a, and must go on doing so when the concat ties it to d.
    body = """
        a = Conv (x, w)
        p = MaxPool <kernel_shape = [1, 1]> (a)
        d = Conv (a, w)
        j = Concat <axis = 1> (d, p)
        q = MaxPool <kernel_shape = [1, 1]> (j)
        y = Neg (q)
    """
    assert shared(body) == {"a": "d", "p": "d", "j": "d", "q": "d"}


def test_concats_that_share_an_input_are_one_group():
    body = """
        a = Conv (x, w)
        c = Conv (a, w)
        d = Conv (c, w)
        i = Concat <axis = 1> (a, c)
        j = Concat <axis = 1> (c, d)
        y = Concat <axis = 1> (i, j)
    """
    assert shared(body) == {"c": "a", "d": "a", "i": "a", "j": "a", "y": "a"}


def test_a_fixed_input_keeps_what_its_kernel_sets():
    body = "a = Conv (x, w) s = Sigmoid (a) y = Concat <axis = 1> (a, s)"
    assert shared(body) == {"y": "a"}


def ranges(model: ir.Model, plan: QuantPlan, target: Target, **seen: tuple[float, float]) -> None:
    """Choose parameters as if calibration had seen these ranges."""
    statistics = {}
    for name, wanted in range_request(model.graph, plan, target, MinMaxRange()).items():
        statistics[name] = {key: make() for key, make in wanted.items()}
        for statistic in statistics[name].values():
            statistic.update(np.asarray(seen[name], np.float32), 0)
    choose_activations(model.graph, plan, target, MinMaxRange(), "minmax", statistics)


def test_a_group_takes_the_union_of_what_its_members_saw():
    model = parse(
        f"g ({PICTURE} x) => (float[] y) {{ a = Conv (x, w) c = Conv (x, w) "
        "y = Concat <axis = 1> (a, k4, c) }",
        WEIGHTS | {"k4": np.full((1, 4, 8, 8), 7, np.float32)},
    )
    plan = draft(model, target=EQUAL_CONCAT)
    assert [v.name for v in observed_values(model.graph, plan, EQUAL_CONCAT)] == ["x", "a", "c"]
    ranges(model, plan, EQUAL_CONCAT, x=(0, 1), a=(-1, 2), c=(-2, 1))
    params = {plan.values[n].params for n in ("a", "c", "k4", "y")}
    assert len({(float(p.scale), int(p.zero_point)) for p in params if p}) == 1
    scale = plan.values["a"].params
    assert scale is not None and scale.scale == np.float32(9 / 255)  # -2 to the constant's 7
    assert plan.values["a"].rule == "minmax"
    x = plan.values["x"].params
    assert x is not None and x.scale == np.float32(1 / 255)


def test_a_constant_takes_its_own_range():
    model = net("c = Conv (x, w) y = Mul (c, k)")
    plan = draft(model)
    ranges(model, plan, TARGET, x=(0, 1), c=(0, 1), y=(0, 1))
    entry = plan.values["k"]
    low, high = min(WEIGHTS["k"].min(), 0), max(WEIGHTS["k"].max(), 0)
    assert entry.params is not None
    assert entry.params.scale == pytest.approx((high - low) / 255, rel=1e-6)
    assert entry.rule == "minmax of the constant"


def test_a_value_nothing_was_seen_of_holds_zero():
    model = net("y = Conv (x, w)")
    plan = draft(model)
    statistics = {
        n: {k: f() for k, f in w.items()}
        for n, w in range_request(model.graph, plan, TARGET, MinMaxRange()).items()
    }
    choose_activations(model.graph, plan, TARGET, MinMaxRange(), "minmax", statistics)
    params = plan.values["x"].params
    assert params is not None and (params.scale, params.zero_point) == (np.float32(1 / 255), 0)


def test_what_follows_a_relu_is_asked_for_its_maximum_only():
    model = net(
        "c = Conv (x, w) r = Relu (c) p = AveragePool <kernel_shape = [2, 2]> (r) y = Conv (p, w)"
    )
    plan = draft(model)
    request = range_request(model.graph, plan, TARGET, MinMaxRange())
    nonnegative = {n: next(iter(w.values()))().nonnegative for n, w in request.items()}
    assert nonnegative == {"x": False, "r": True, "p": True, "y": False}


def test_resolving_copies_the_leaders_parameters():
    plan = draft(net("c = Conv (x, w) y = Flatten (c)"))
    params = QuantParams(np.asarray(0.5, np.float32), np.asarray(7, np.int64))
    plan.values["c"] = plan.values["c"].with_params(params)
    resolve_shared(plan)
    entry = plan.values["y"]
    assert entry.params is not None and entry.params.same_as(params)
