"""Which values carry parameters, of which type, and which are tied to each other."""

from dataclasses import replace
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.plan import (
    Derived,
    Fixed,
    QuantParams,
    QuantPlan,
    ValuePlan,
    Widened,
    wide_name,
)
from qcompile.core.target import FixedOutput, InputRole, OpRule, Target
from qcompile.core.units import Unit, is_point, output_channel_axis, rules_for, units
from qcompile.passes.plan.shared_groups import flatten_shares, share

_CLAMPS: Final = frozenset({"Relu", "Clip"})


def plan_values(graph: ir.Graph, plan: QuantPlan, target: Target) -> None:
    """Add an entry for each value an integer or dynamic unit reads or makes, without parameters.

    Outputs of kernels with fixed output parameters get those at once (``Fixed``); outputs of ops
    that only move integers share their input's (``Shared``), and so does every input of such an op
    with several (``shared_groups``); a bias is ``Derived``. What a node with int16 activations
    reads of a value of 8 bits has an entry of its own (``Widened``).
    """
    for unit in units(graph, plan):
        if plan.mode(unit.node.name) == "integer":
            _activations(unit, plan, target)
        _constants(unit, plan, target)
    flatten_shares(plan)


def _activations(unit: Unit, plan: QuantPlan, target: Target) -> None:
    rules = rules_for(unit.node, plan, target)
    rule = rules.ops[unit.node.op_type]
    inputs = [
        _read(v, unit, plan, target)
        for i, v in enumerate(unit.node.inputs)
        if v is not None and _is_activation(rule.role(i), v)
    ]
    made = []
    for value in [unit.output] if unit.absorbed else list(unit.node.outputs):
        if value.dtype == ir.DataType.FLOAT and not _can_stay_float(value, unit, rule, plan):
            name = _add_activation(value.name or "", plan, rules)
            made.append(name)
            if rule.fixed_output is not None:
                _set_by_kernel(name, unit, rule.fixed_output, plan)
    if rule.same_parameters:
        share(unit.node, inputs, made, plan)


def _set_by_kernel(name: str, unit: Unit, fixed: FixedOutput, plan: QuantPlan) -> None:
    params = QuantParams(
        np.asarray(fixed.scale, np.float32), np.asarray(fixed.zero_point, np.int64)
    )
    plan.values[name] = replace(
        plan.values[name],
        relation=Fixed(unit.node.op_type),
        rule="fixed",
        reason=f"the integer {unit.node.op_type} kernel sets it",
    ).with_params(params)


def _read(value: ir.Value, unit: Unit, plan: QuantPlan, target: Target) -> str:
    """Add the entry under which a unit reads a value; its name.

    An int16 unit reads what an int16 unit made as it is, and so what a float node made for int16
    units alone; a constant in int16, by an entry of its own where 8-bit nodes read it too; all else
    as the 8-bit value it is, made wider.
    """
    name = value.name or ""
    if not plan.is_wide(unit.node.name):
        return _add_activation(name, plan, target)
    wide = rules_for(unit.node, plan, target)
    producer = value.producer()
    if producer is not None and plan.is_wide(producer.name):
        return _add_activation(name, plan, wide)
    if g.constant(value) is not None:
        own = wide_name(name) if _is_read_in_8_bits(value, plan) else name
        return _add_activation(own, plan, wide)
    is_float = producer is not None and not plan.is_integer(producer.name)
    if is_float and not _is_read_in_8_bits(value, plan):
        return _add_activation(name, plan, wide)
    _add_activation(name, plan, target)
    border = _add_activation(wide_name(name), plan, wide)
    plan.values[border] = replace(
        plan.values[border],
        relation=Widened(name),
        rule="widened",
        reason="the 8-bit value times 128, exactly",
    )
    return border


def _is_read_in_8_bits(value: ir.Value, plan: QuantPlan) -> bool:
    readers = (use.node.name for use in value.uses())
    return any(plan.mode(r) == "integer" and not plan.is_wide(r) for r in readers)


def _is_activation(role: InputRole, value: ir.Value) -> bool:
    return role == "activation" or (role == "operand" and g.constant(value) is None)


def _can_stay_float(value: ir.Value, unit: Unit, rule: OpRule, plan: QuantPlan) -> bool:
    """No quantizer behind a kernel that can give floats when nothing integer reads it.

    A clamp that was absorbed is the quantizer's work. (Without one, ONNX Runtime 1.32 merges it
    with the float Gemm and dequantizes the weights in every run.)
    """
    gives_floats = rule.float_output or (rule.float_at_a_point and is_point(unit.node))
    if not gives_floats or (value.is_graph_output() and plan.ends != "float"):
        return False
    if any(node.op_type in _CLAMPS for node in unit.absorbed):
        return False
    return not any(plan.is_integer(u.node.name) for u in value.uses())


def _add_activation(name: str, plan: QuantPlan, target: Target) -> str:
    numbers = target.activations
    entry = ValuePlan(name, "activation", numbers.dtype, symmetric=numbers.symmetric)
    plan.values.setdefault(name, entry)
    return name


def _constants(unit: Unit, plan: QuantPlan, target: Target) -> None:
    weight, bias = unit.weight, unit.bias
    if weight is None or weight.name is None:
        return
    plan.values.setdefault(
        weight.name,
        ValuePlan(
            weight.name,
            "weight",
            _weight_type(unit, weight, target),
            symmetric=target.weights.symmetric,
        ),
    )
    if bias is not None and bias.name is not None and plan.mode(unit.node.name) == "integer":
        activation = unit.node.inputs[0]
        assert activation is not None
        plan.values[bias.name] = ValuePlan(
            bias.name,
            "bias",
            target.bias.dtype,
            symmetric=True,
            relation=Derived(plan.seen_by(unit.node.name, activation.name), weight.name),
            rule="derived",
            reason="scale of the activation times scale of the weight",
        )


def _weight_type(unit: Unit, weight: ir.Value, target: Target) -> str:
    numbers = target.weights
    if numbers.wide is None:
        return numbers.dtype
    whole = output_channel_axis(unit.node, g.rank(weight) or 0) is None
    return numbers.wide if whole or target.ops[unit.node.op_type].wide_weights else numbers.dtype
