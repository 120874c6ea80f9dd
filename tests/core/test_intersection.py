"""One description for several targets promises only what all of them keep."""

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.intersection import intersect, unsigned
from qcompile.core.target import FixedOutput, Numbers, OpRule, Saturation, ScaleRatio, Target

U8, S8 = Numbers("uint8"), Numbers("int8")
WEIGHTS = Numbers("int8", symmetric=True, granularity=("tensor", "channel"), alternative="uint8")
BIAS = Numbers("int32", symmetric=True)


def target(name: str, activations: Numbers = U8, **changed: object) -> Target:
    fields: dict[str, object] = {"weights": WEIGHTS, "ops": {}, **changed}
    return Target(
        name=name, title=name, runtime="r", min_runtime="1", activations=activations, bias=BIAS,
        **fields,  # type: ignore[arg-type]
    )  # fmt: skip


def test_one_target_is_itself() -> None:
    alone = target("a")
    assert intersect([alone]) is alone


def test_an_op_needs_a_rule_everywhere_and_says_who_lacks_it() -> None:
    a = target("a", ops={"Conv": OpRule(), "Mul": OpRule()})
    b = target("b", ops={"Conv": OpRule(), "Tanh": OpRule()}, float_ops={"Mul": "no Mul here"})
    both = intersect([a, b])
    assert both.name == "a+b"
    assert list(both.ops) == ["Conv"]
    assert both.why_float("Mul") == "no Mul here"
    assert both.why_float("Tanh") == "Tanh is not in the operator table of a"


def test_rules_are_cut_to_what_both_keep() -> None:
    one = OpRule(
        absorbs=("Relu", "Clip"),
        float_output=True,
        float_at_a_point=True,
        per_channel=True,
        constants=True,
        table=True,
    )
    two = OpRule(absorbs=("Relu",), same_parameters=True, outputs="all", ranks=(4,))
    rule = intersect([target("a", ops={"X": one}), target("b", ops={"X": two})]).ops["X"]
    assert rule.absorbs == ("Relu",)
    assert rule.same_parameters
    assert (rule.float_output, rule.per_channel, rule.constants) == (False, False, False)
    assert not rule.float_at_a_point
    assert not rule.table
    assert (rule.outputs, rule.ranks) == ("all", (4,))


def test_conditions_are_joined() -> None:
    one = OpRule(where={"mode": ("nearest", "linear"), "alpha": (1,)}, ranks=(3, 4))
    two = OpRule(where={"mode": ("nearest",), "beta": (1,)}, ranks=(4, 5))
    rule = intersect([target("a", ops={"X": one}), target("b", ops={"X": two})]).ops["X"]
    assert dict(rule.where) == {"mode": ("nearest",), "alpha": (1,), "beta": (1,)}
    assert rule.ranks == (4,)


def test_fixed_outputs_of_u8_and_s8_are_the_same_128_apart() -> None:
    u8 = OpRule(fixed_output=FixedOutput(1 / 256, 0))
    s8 = OpRule(fixed_output=FixedOutput(1 / 256, -128))
    a, b = target("a", U8, ops={"Softmax": u8}), target("b", S8, ops={"Softmax": s8})
    assert intersect([a, b]).ops["Softmax"].fixed_output == FixedOutput(1 / 256, 0)
    assert intersect([b, a]).ops["Softmax"].fixed_output == FixedOutput(1 / 256, -128)
    free = target("c", S8, ops={"Softmax": OpRule()})
    assert intersect([free, a]).ops["Softmax"].fixed_output == FixedOutput(1 / 256, -128)


def test_fixed_outputs_that_contradict_leave_the_op_float() -> None:
    one = target("a", ops={"Tanh": OpRule(fixed_output=FixedOutput(1 / 128, 128))})
    two = target("b", ops={"Tanh": OpRule(fixed_output=FixedOutput(1 / 256, 0))})
    both = intersect([one, two])
    assert "Tanh" not in both.ops
    assert both.why_float("Tanh") == "a and b set different output parameters of Tanh"


def test_saturation_and_static_shapes_of_either_hold_for_both() -> None:
    saturation = Saturation(2, -32768, 32767, 255)
    plain = Numbers("int8", symmetric=True, granularity=("tensor",))
    a = target("a", saturation=saturation)
    b = target("b", weights=plain, static_shapes=True, max_opset=19)
    both = intersect([a, b])
    assert both.saturation is saturation
    assert both.static_shapes
    assert both.max_opset == 19
    assert both.weights.alternative is None
    assert both.weights.granularity == ("tensor",)


def test_a_stem_in_floats_must_pay_everywhere() -> None:
    free, dear = target("a", float_stem=True), target("b")
    assert intersect([free, free]).float_stem
    assert not intersect([free, dear]).float_stem
    assert not intersect([dear, free]).float_stem


def test_scales_a_row_are_promised_where_both_have_them() -> None:
    rows, tensor = target("a", dynamic_scales="row"), target("b")
    assert intersect([rows, rows]).dynamic_scales == "row"
    assert intersect([rows, tensor]).dynamic_scales == "tensor"
    assert intersect([tensor, rows]).dynamic_scales == "tensor"


def test_types_of_other_widths_have_no_plan_in_common() -> None:
    with pytest.raises(QCompileError, match="no plan fits both") as caught:
        intersect([target("a"), target("b", Numbers("int16"))])
    assert caught.value.code is Code.BAD_OPTION


def test_scale_ratios_are_cut_to_the_narrower() -> None:
    wide, narrow = ScaleRatio("each", 0.25, 8.0), ScaleRatio("each", 0.125, 4.0)
    product = ScaleRatio("product", 0.0, 2.0)

    def joined(one: ScaleRatio | None, other: ScaleRatio | None) -> ScaleRatio | None:
        both = [
            target(name, ops={"Add": OpRule(scale_ratio=ratio)})
            for name, ratio in (("a", one), ("b", other))
        ]
        return intersect(both).ops["Add"].scale_ratio

    assert joined(wide, narrow) == ScaleRatio("each", 0.25, 4.0)
    assert joined(None, narrow) == joined(narrow, None) == narrow
    assert joined(product, narrow) == product


def test_plans_are_made_in_u8() -> None:
    rule = OpRule(fixed_output=FixedOutput(1 / 256, -128))
    signed = target("a", S8, ops={"Softmax": rule, "Conv": OpRule()})
    made = unsigned(signed)
    assert made.activations.dtype == "uint8"
    assert made.ops["Softmax"].fixed_output == FixedOutput(1 / 256, 0)
    assert made.ops["Conv"] is signed.ops["Conv"]
    for other in (made, target("b", U8), target("c", Numbers("int16", symmetric=True))):
        assert unsigned(other) is other


@pytest.mark.parametrize("turned", [False, True])
def test_stored_weights_are_what_every_kernel_reads(turned: bool) -> None:
    """Whichever target stands first."""
    one = Numbers("uint4", granularity=("channel", "group"), groups=(16, 32), multiple=2)
    two = Numbers("uint4", granularity=("channel", "group"), groups=(32, 64), narrow=True)
    both = [target("a", weights=one), target("b", weights=two)]
    weights = intersect(both[::-1] if turned else both).weights
    assert (weights.groups, weights.narrow, weights.multiple) == ((32,), True, 2)
