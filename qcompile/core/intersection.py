"""What several targets have in common: the description that one plan for all is made for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from math import lcm

from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.affine import LIMITS, zero_offset
from qcompile.core.target import FixedOutput, Numbers, OpRule, ScaleRatio, Target

_Allowed = Mapping[str, tuple[str | int, ...]]


def intersect(targets: Sequence[Target]) -> Target:
    """A target that promises nothing which one of the given ones does not keep.

    Activation types of one width count as one: U8 and S8 have the same scales, with zero points
    128 apart; the first target's type is taken, and each artefact gets its own
    (``passes.plan.retype``). An op is integer where all have a rule for it under the conditions of
    all. Saturation is that of the target that saturates.

    Raises:
        QCompileError: BAD_OPTION naming the targets whose types have no such relation.
    """
    return reduce(_both, targets)


def unsigned(target: Target) -> Target:
    """The same target with U8 activations where it has S8; any other target as it is.

    Plans are made and tried in U8: it stands for the same numbers, and ONNX Runtime, which runs the
    quantized graph while it is being made, leaves S8 tensors float on x86 and refuses some graphs
    that hold them. Each artefact gets the target's own type (``passes.plan.retype``).
    """
    if target.activations.dtype != "int8":
        return target
    shift = zero_offset("uint8")
    ops = {op: _shifted(rule, shift) for op, rule in target.ops.items()}
    return replace(target, activations=replace(target.activations, dtype="uint8"), ops=ops)


def _shifted(rule: OpRule, shift: int) -> OpRule:
    fixed = rule.fixed_output
    if fixed is None:
        return rule
    return replace(rule, fixed_output=replace(fixed, zero_point=fixed.zero_point + shift))


def _both(a: Target, b: Target) -> Target:
    ops, floats = {}, {**b.float_ops, **a.float_ops}
    for op in a.ops:
        rule = _rule(a, b, op)
        if isinstance(rule, OpRule):
            ops[op] = rule
        else:
            floats[op] = rule
    for op in b.ops:
        if op not in a.ops:
            floats[op] = a.why_float(op)
    return replace(
        a,
        name=f"{a.name}+{b.name}",
        title=f"{a.title}; {b.title}",
        activations=_numbers(a, b, lambda t: t.activations),
        weights=_numbers(a, b, lambda t: t.weights),
        bias=_numbers(a, b, lambda t: t.bias),
        ops=ops,
        float_ops=floats,
        schemes=tuple(scheme for scheme in a.schemes if scheme in b.schemes),
        weight_forms=tuple(form for form in a.weight_forms if form in b.weight_forms),
        attention=a.attention if a.attention == b.attention else "",
        caches=tuple(cache for cache in a.caches if cache in b.caches),
        variants=_variants(a, b),
        ends=a.ends if b.ends == "float" else b.ends,
        static_shapes=a.static_shapes or b.static_shapes,
        dynamic_scales=a.dynamic_scales if a.dynamic_scales == b.dynamic_scales else "tensor",
        unroll=max(a.unroll, b.unroll),
        float_stem=a.float_stem and b.float_stem,
        sum_bits=min(a.sum_bits, b.sum_bits),
        saturation=a.saturation or b.saturation,
        simulated=a.simulated or b.simulated,
        max_opset=min(a.max_opset, b.max_opset),
    )


def _variants(a: Target, b: Target) -> dict[str, Target]:
    """The rules for nodes with int16 activations, where both have such nodes."""
    return {"w8a16": _both(a.wide, b.wide)} if a.wide and b.wide else {}


def _numbers(a: Target, b: Target, role: Callable[[Target], Numbers]) -> Numbers:
    one, other = role(a), role(b)
    if _width(one.dtype) != _width(other.dtype) or one.symmetric != other.symmetric:
        raise QCompileError(
            Code.BAD_OPTION,
            f"{a.name} works on {one.dtype} and {b.name} on {other.dtype}: no plan fits both",
            hint="--separate-plans makes a plan for each",
        )
    return replace(
        one,
        granularity=tuple(g for g in one.granularity if g in other.granularity),
        groups=tuple(g for g in one.groups if g in other.groups),
        narrow=one.narrow or other.narrow,
        multiple=lcm(one.multiple, other.multiple),
        alternative=one.alternative if one.alternative == other.alternative else None,
        wide=one.wide or other.wide,
    )


def _width(dtype: str) -> int:
    low, high = LIMITS[dtype]
    return high - low


def _rule(a: Target, b: Target, op: str) -> OpRule | str:
    """The rule both keep, or why there is none."""
    one, other = a.ops[op], b.rule(op)
    if other is None:
        return b.why_float(op)
    if [one.role(i) for i in range(3)] != [other.role(i) for i in range(3)]:
        return f"{a.name} and {b.name} take different inputs of {op} as integers"
    fixed = _fixed(a, b, op)
    if isinstance(fixed, str):
        return fixed
    ranks = tuple(r for r in one.ranks or other.ranks if not other.ranks or r in other.ranks)
    return replace(
        one,
        outputs="all" if "all" in {one.outputs, other.outputs} else "first",
        absorbs=tuple(x for x in one.absorbs if x in other.absorbs),
        same_parameters=one.same_parameters or other.same_parameters,
        fixed_output=fixed,
        scale_ratio=_ratio(one, other),
        float_output=one.float_output and other.float_output,
        float_at_a_point=one.float_at_a_point and other.float_at_a_point,
        per_channel=one.per_channel and other.per_channel,
        wide_weights=one.wide_weights or other.wide_weights,
        constants=one.constants and other.constants,
        table=one.table and other.table,
        dynamic=one.dynamic if other.dynamic else (),
        weights_only=one.weights_only if other.weights_only else (),
        weights_unless=one.weights_unless or other.weights_unless,
        dynamic_where=_joined(one.dynamic_where, other.dynamic_where),
        where=_joined(one.where, other.where),
        ranks=ranks,
        unless=one.unless or other.unless,
    )


def _ratio(one: OpRule, other: OpRule) -> ScaleRatio | None:
    """The narrower bounds; of two that count differently those of the first."""
    a, b = one.scale_ratio, other.scale_ratio
    if a is None or b is None or a.of != b.of:
        return a or b
    return replace(a, low=max(a.low, b.low), high=min(a.high, b.high))


def _joined(one: _Allowed, other: _Allowed) -> _Allowed:
    """The values of attributes that both allow; one that is not named may have any."""
    return {
        key: tuple(v for v in values if v in one.get(key, values) and v in other.get(key, values))
        for key, values in {**other, **one}.items()
    }


def _fixed(a: Target, b: Target, op: str) -> FixedOutput | str | None:
    """The output parameters of either, in the type of ``a``; a reason where they contradict."""
    one, other = a.ops[op].fixed_output, b.ops[op].fixed_output
    shift = zero_offset(a.activations.dtype) - zero_offset(b.activations.dtype)
    moved = None if other is None else replace(other, zero_point=other.zero_point + shift)
    if one is not None and moved is not None and one != moved:
        return f"{a.name} and {b.name} set different output parameters of {op}"
    return one or moved
