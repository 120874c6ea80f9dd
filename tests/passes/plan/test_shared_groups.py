"""Groups around ops that move integers: who leads, who stays out, what must be measured."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.plan import QuantPlan, Shared
from qcompile.passes.plan.activations import choose_activations, observed_values, range_request
from qcompile.passes.plan.ranges.min_max import MinMaxRange
from qcompile.targets.catalog import load_target
from tests.passes.plan.test_values import PICTURE, WEIGHTS
from tests.passes.planning import draft
from tests.passes.prepare.checking import parse

TARGET = load_target("tflite-arm64")


PADS = np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64)


def net(body: str) -> ir.Model:
    text = f"g ({PICTURE} x) => (float[] y) {{ {body} }}"
    return parse(text, WEIGHTS | {"pads": PADS})


def plan_of(body: str) -> tuple[ir.Model, QuantPlan]:
    model = net(body)
    return model, draft(model, target=TARGET)


def shared(plan: QuantPlan) -> dict[str, str]:
    return {
        name: entry.relation.leader
        for name, entry in plan.values.items()
        if isinstance(entry.relation, Shared)
    }


def measured(model: ir.Model, plan: QuantPlan) -> list[str | None]:
    return [value.name for value in observed_values(model.graph, plan, TARGET)]


def choose(model: ir.Model, plan: QuantPlan, **seen: tuple[float, float]) -> None:
    statistics = {}
    for name, wanted in range_request(model.graph, plan, TARGET, MinMaxRange()).items():
        statistics[name] = {key: make() for key, make in wanted.items()}
        for statistic in statistics[name].values():
            statistic.update(np.asarray(seen[name], np.float32), 0)
    choose_activations(model.graph, plan, TARGET, MinMaxRange(), "minmax", statistics)


def parameters(plan: QuantPlan, name: str) -> tuple[float, int]:
    params = plan.values[name].params
    assert params is not None
    return float(params.scale), int(params.zero_point)


SIGMOID = (1 / 256, -128)
LAYERS = "a = Conv (x, w) c = Conv (a, w) "


def test_a_concat_shares_and_needs_no_range_of_its_own() -> None:
    model, plan = plan_of(LAYERS + "j = Concat <axis = 1> (a, c) y = Abs (j)")
    assert shared(plan) == {"c": "a", "j": "a"}
    assert measured(model, plan) == ["x", "a", "c", "y"]
    choose(model, plan, x=(0, 1), a=(-1, 2), c=(-3, 1), y=(0, 3))
    assert parameters(plan, "a") == parameters(plan, "c") == parameters(plan, "j")
    assert parameters(plan, "a")[0] == np.float32(5 / 255)


@pytest.mark.parametrize("order", ["s, a", "a, s"])
def test_a_set_input_stays_out_wherever_it_stands(order: str) -> None:
    """The others do not take after it, and the group holds what comes in from it."""
    model, plan = plan_of(LAYERS + f"s = Sigmoid (c) y = Concat <axis = 1> ({order})")
    assert shared(plan) == {"y": "a"}
    assert "y" in measured(model, plan)
    choose(model, plan, x=(0, 1), a=(-0.25, 0.25), c=(-3, 1), y=(-0.25, 0.75))
    assert parameters(plan, "s") == SIGMOID
    assert parameters(plan, "y") == parameters(plan, "a")
    assert parameters(plan, "a")[0] == np.float32(1 / 255), "-0.25 of a to 0.75 of s"


def test_equal_set_inputs_lead() -> None:
    model, plan = plan_of(
        LAYERS + "s = Sigmoid (a) t = Softmax <axis = 3> (c) y = Concat <axis = 1> (s, t)"
    )
    assert shared(plan) == {"y": "s"}
    assert "y" not in measured(model, plan)
    choose(model, plan, x=(0, 1), a=(-1, 1), c=(-1, 1))
    assert parameters(plan, "y") == SIGMOID


def test_unequal_set_inputs_leave_the_output_to_itself() -> None:
    model, plan = plan_of(LAYERS + "s = Sigmoid (a) t = Tanh (c) y = Concat <axis = 1> (s, t)")
    assert shared(plan) == {}
    assert "y" in measured(model, plan)
    choose(model, plan, x=(0, 1), a=(-1, 1), c=(-1, 1), y=(-1, 1))
    assert parameters(plan, "s") == SIGMOID
    assert parameters(plan, "t") == (1 / 128, 0)


def test_what_only_moves_a_set_value_takes_after_it() -> None:
    model, plan = plan_of(
        "a = Conv (x, w) s = Sigmoid (a) p = MaxPool <kernel_shape = [2, 2]> (s) "
        "t = Transpose <perm = [0, 2, 3, 1]> (p) y = Abs (t)"
    )
    assert shared(plan) == {"p": "s", "t": "s"}
    assert measured(model, plan) == ["x", "a", "y"]


def test_a_moved_set_value_stays_out_as_well() -> None:
    _, plan = plan_of(
        LAYERS + "s = Sigmoid (c) f = Transpose <perm = [0, 1, 3, 2]> (s) "
        "y = Concat <axis = 1> (f, a)"
    )
    assert shared(plan) == {"f": "s", "y": "a"}


@pytest.mark.parametrize(("number", "is_measured"), [("zero", False), ("six", True)])
def test_a_pad_brings_in_its_number(number: str, is_measured: bool) -> None:
    model, plan = plan_of(
        f"a = Conv (x, w) p = Pad (a, pads, {number}) y = Conv (p, w)",
    )
    assert ("p" in measured(model, plan)) == is_measured


def test_a_maximum_with_a_constant_is_one_group() -> None:
    model, plan = plan_of("a = Conv (x, w) o = Max (a, six) y = Conv (o, w)")
    assert shared(plan) == {"six": "a", "o": "a"}
    choose(model, plan, x=(0, 1), a=(-1, 2), y=(0, 1))
    assert parameters(plan, "a")[0] == np.float32(7 / 255), "-1 to the constant's 6"


def test_targets_that_requantize_share_nothing() -> None:
    rule = replace(TARGET.ops["Concat"], same_parameters=False)
    free = replace(TARGET, ops={**TARGET.ops, "Concat": rule})
    plan = draft(net(LAYERS + "y = Concat <axis = 1> (a, c)"), target=free)
    assert shared(plan) == {}
