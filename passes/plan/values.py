"""Which values carry parameters, of which type, and which are tied to each other."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.plan import Derived, Fixed, QuantParams, QuantPlan, ValuePlan
from qcompile.core.target import InputRole, OpRule, Target
from qcompile.core.units import Unit, output_channel_axis, units
from qcompile.passes.plan.shared_groups import flatten_shares, share


def plan_values(graph: ir.Graph, plan: QuantPlan, target: Target) -> None:
    """Add an entry for each value an integer or dynamic unit reads or makes, without parameters.

    Outputs of kernels with fixed output parameters get those at once (``Fixed``); outputs of ops
    that only move integers share their input's (``Shared``), and so does every input of such an op
    with several (``shared_groups``); a bias is ``Derived``.
    """
    for unit in units(graph, plan):
        rule = target.ops[unit.node.op_type]
        if plan.mode(unit.node.name) == "integer":
            _activations(unit, rule, plan, target)
        _constants(unit, plan, target)
    flatten_shares(plan)


def _activations(unit: Unit, rule: OpRule, plan: QuantPlan, target: Target) -> None:
    inputs = [
        v
        for i, v in enumerate(unit.node.inputs)
        if v is not None and _is_activation(rule.role(i), v)
    ]
    for value in inputs:
        _add_activation(value, plan, target)
    outputs = [unit.output] if unit.absorbed else list(unit.node.outputs)
    for value in outputs:
        if value.dtype == ir.DataType.FLOAT and not _can_stay_float(value, rule, plan):
            _add_activation(value, plan, target)
            if rule.fixed_output is not None:
                params = QuantParams(
                    np.asarray(rule.fixed_output.scale, np.float32),
                    np.asarray(rule.fixed_output.zero_point, np.int64),
                )
                plan.values[value.name or ""] = replace(
                    plan.values[value.name or ""],
                    relation=Fixed(unit.node.op_type),
                    rule="fixed",
                    reason=f"the integer {unit.node.op_type} kernel sets it",
                ).with_params(params)
    if rule.same_parameters:
        share(unit.node, inputs, outputs, plan)


def _is_activation(role: InputRole, value: ir.Value) -> bool:
    return role == "activation" or (role == "operand" and g.constant(value) is None)


def _can_stay_float(value: ir.Value, rule: OpRule, plan: QuantPlan) -> bool:
    """No quantizer behind a kernel that can give floats when nothing integer reads it."""
    if not rule.float_output or (value.is_graph_output() and plan.ends != "float"):
        return False
    return all(plan.mode(u.node.name) == "float" for u in value.uses())


def _add_activation(value: ir.Value, plan: QuantPlan, target: Target) -> None:
    numbers = target.activations
    plan.values.setdefault(
        value.name or "",
        ValuePlan(value.name or "", "activation", numbers.dtype, symmetric=numbers.symmetric),
    )


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
            relation=Derived(activation.name or "", weight.name),
            rule="derived",
            reason="scale of the activation times scale of the weight",
        )


def _weight_type(unit: Unit, weight: ir.Value, target: Target) -> str:
    numbers = target.weights
    if numbers.wide is None:
        return numbers.dtype
    whole = output_channel_axis(unit.node, g.rank(weight) or 0) is None
    return numbers.wide if whole or target.ops[unit.node.op_type].wide_weights else numbers.dtype
