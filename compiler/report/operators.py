"""A target's operator table as a page: what is integer in which types, and why the rest is not."""

from collections.abc import Iterator
from typing import Final

from qcompile.compiler.report.page import Page, Remark, Table
from qcompile.core.schemes import WEIGHT_ONLY
from qcompile.core.target import OpRule, Target

HEADER: Final = ("op", "types", "weight scales", "absorbs", "kernels and conditions")


def operator_page(target: Target) -> Page:
    """Every op that the target's table knows.

    Types are those of inputs, ``*`` between them: activations, weights (or a computed operand).
    Conditions of a compiler for an NPU stand in a table of their own.
    """
    ops = sorted(target.ops.items())
    rows = tuple((op, *_row(target, op, rule)) for op, rule in ops)
    leaving = tuple((op, rule.leaves) for op, rule in ops if rule.leaves)
    held = tuple((op, "; ".join(rule.conditions)) for op, rule in ops if rule.conditions)
    tables = [Table("Integer", HEADER, rows, whole=(0,))]
    if leaving:
        tables.append(Table("Integer, but off the NPU", ("op", "why"), leaving, whole=(0,)))
    if held:
        tables.append(Table("On the NPU where", ("op", "conditions"), held, whole=(0,)))
    if target.conditions:
        rows = tuple(("all", text) for text in target.conditions)
        tables.append(Table("On the NPU where, for every op", ("op", "condition"), rows))
    if target.float_ops:
        reasons = tuple(sorted(target.float_ops.items()))
        tables.append(Table("Float", ("op", "why"), reasons, whole=(0,)))
    remarks = (
        Remark("info", "every other op stays float: it is not in the table"),
        *([Remark("info", target.evidence.strip())] if target.evidence else []),
    )
    facts = (
        ("title", target.title),
        ("activations", numbers(target.activations.dtype, symmetric=target.activations.symmetric)),
        ("weights", numbers(target.weights.dtype, symmetric=target.weights.symmetric)),
        ("schemes", ", ".join(target.schemes)),
    )
    return Page(f"Operators of {target.name}", facts, tuple(tables), remarks)


def numbers(dtype: str, *, symmetric: bool) -> str:
    """A type in words."""
    return f"{dtype}, {'symmetric' if symmetric else 'asymmetric'}"


def conditions(rule: OpRule) -> list[str]:
    """What a node must meet to be integer, and what that does to its parameters."""
    found = [f"{name} {' or '.join(map(str, values))}" for name, values in rule.where.items()]
    if rule.ranks:
        found.append(f"rank {' or '.join(map(str, rule.ranks))}")
    if rule.outputs == "all":
        found.append("every output is read and quantized")
    if rule.same_parameters:
        found.append("same parameters in and out")
    if rule.fixed_output is not None:
        scale, zero = rule.fixed_output.scale, rule.fixed_output.zero_point
        found.append(f"output scale {scale:.6g}, zero point {zero}")
    if rule.scale_ratio is not None:
        of = "product of input scales" if rule.scale_ratio.of == "product" else "each input scale"
        low, high = rule.scale_ratio.low, rule.scale_ratio.high
        found.append(f"{of} over the output's from {low:.6g} to below {high:.6g}")
    if rule.constants:
        found.append("an input may be constant")
    if rule.table:
        found.append("rows of a constant table in integers")
    if rule.most_inputs:
        found.append(f"up to {rule.most_inputs} inputs at once")
    return found


def _row(target: Target, op: str, rule: OpRule) -> tuple[str, ...]:
    scales = "-"
    if {"weight", "operand"} & set(rule.inputs):
        scales = "channel, tensor" if rule.per_channel else "tensor"
    return (
        "; ".join(_types(target, op)),
        scales,
        ", ".join(rule.absorbs) or "-",
        "; ".join((" or ".join(rule.kernels), *conditions(rule))),
    )


def _types(target: Target, op: str) -> Iterator[str]:
    """The combinations of input types that have kernels."""
    rule = target.ops[op]
    yield _combination(target, rule)
    wide = target.wide
    if wide is not None and (other := wide.rule(op)) is not None:
        yield _combination(wide, other)
    if rule.dynamic and "w8a8-dynamic" in target.schemes:
        yield f"float * {target.weights.dtype} as it runs ({', '.join(rule.dynamic)})"
    bits = [str(number) for scheme, number in WEIGHT_ONLY.items() if scheme in target.schemes]
    if rule.weights_only and bits:
        yield f"float * {', '.join(bits)} bits ({', '.join(rule.weights_only)})"


def _combination(target: Target, rule: OpRule) -> str:
    types = [target.activations.dtype]
    roles = rule.inputs[1:2]
    if "weight" in roles:
        other = target.weights.alternative
        types.append(target.weights.dtype + (f" or {other}" if other else ""))
    elif "operand" in roles:
        types.append(f"{target.weights.dtype} or {target.activations.dtype}")
    return " * ".join(types)
