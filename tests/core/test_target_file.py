"""What may stand in a target file, how a wrong one is refused, and what a target says."""

from typing import Any

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.target_file import merge, parse_target


def description(**changes: Any) -> dict[str, Any]:
    """A small valid target; a change to None removes the key."""
    tables: dict[str, Any] = {
        "schema": 1,
        "name": "chip",
        "title": "A chip",
        "runtime": "onnxruntime",
        "min_runtime": "1.18",
        "activations": {"dtype": "uint8"},
        "weights": {"dtype": "int8", "symmetric": True, "granularity": ["tensor", "channel"]},
        "bias": {"dtype": "int32"},
        "ops": {
            "Conv": {"kernels": ["QLinearConv"], "inputs": ["activation", "weight", "bias"]},
            "Resize": {"where": {"mode": ["nearest"]}, "inputs": ["activation", "other"]},
            "Softmax": {"fixed_output": {"scale": 0.00390625, "zero_point": 0}},
            "Mul": {"scale_ratio": {"of": "product", "low": 0, "high": 256.0}},
        },
        "float_ops": {"Tanh": "no table"},
        "saturation": {"products": 2, "low": -32768, "high": 32767, "activation_high": 255},
    }
    return {key: value for key, value in {**tables, **changes}.items() if value is not None}


def test_a_description_becomes_a_target() -> None:
    target = parse_target(description(), "chip.toml")
    conv = target.ops["Conv"]
    assert conv.kernels == ("QLinearConv",)
    assert [conv.role(i) for i in range(3)] == ["activation", "weight", "bias"]
    resize = target.ops["Resize"]
    assert resize.role(5) == "other", "the last role stands for all that follow"
    assert resize.where == {"mode": ("nearest",)}
    fixed = target.ops["Softmax"].fixed_output
    assert fixed is not None
    assert (fixed.scale, fixed.zero_point) == (0.00390625, 0)
    ratio = target.ops["Mul"].scale_ratio
    assert ratio is not None
    assert (ratio.of, ratio.low, ratio.high) == ("product", 0, 256)
    assert target.weights.granularity == ("tensor", "channel")
    assert target.saturation is not None
    assert target.saturation.products == 2


def test_why_an_op_stays_float() -> None:
    target = parse_target(description(), "chip.toml")
    assert target.why_float("Tanh") == "no table"
    assert target.why_float("Foo") == "Foo is not in the operator table of chip"
    assert target.rule("Foo") is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"schema": 2}, "schema must be 1"),
        ({"schema": None}, "schema must be 1"),
        (
            {"ops": {"Mul": {"scale_ratio": {"of": "sum", "low": 0, "high": 1}}}},
            "of must be one of product, each, not 'sum'",
        ),
        ({"ops": {"Mul": {"scale_ratio": {"of": "each"}}}}, "low"),
        ({"ops": {"Mul": {"scale_ratio": 256}}}, "scale_ratio"),
        ({"weights": None}, "table [weights] is missing"),
        ({"ops": None}, "table [ops] is missing"),
        ({"title": None}, "'title'"),
        ({"speed": 3}, "unknown key 'speed'; known are accelerator, activations,"),
        ({"title": 3}, "title must be text, not 3"),
        ({"static_shapes": "no"}, "static_shapes must be true or false, not 'no'"),
        ({"max_opset": True}, "max_opset must be a whole number, not True"),
        ({"machines": "x86_64"}, "machines must be a list of text, not 'x86_64'"),
        ({"schemes": ["w9a9"]}, "schemes must be a list of one of w8a8, w8a16, w4a8"),
        ({"scheme": 3}, "table [scheme] is missing"),
        ({"scheme": {"w9a9": {}}}, "[scheme.w9a9]: known are w8a8,"),
        ({"scheme": {"w8a16": 3}}, "table [w8a16] is missing"),
        ({"scheme": {"w8a16": {"speed": 3}}}, "scheme.w8a16: unknown key 'speed'"),
        ({"float_ops": {"Tanh": 1}}, "float_ops must be a table of text"),
        ({"saturation": 3}, "table [saturation] is missing"),
        ({"saturation": {"products": 2}}, "saturation: missing 3 required"),
        ({"ops": {"Conv": 3}}, "ops.Conv: must be a table"),
        ({"ops": {"Conv": {"kernel": ["Q"]}}}, "ops.Conv: unknown key 'kernel'"),
        (
            {"ops": {"Conv": {"inputs": ["weigth"]}}},
            "ops.Conv: inputs must be a list of one of activation, weight, operand, bias, other",
        ),
        ({"ops": {"Conv": {"outputs": "some"}}}, "outputs must be one of first, all"),
        (
            {"ops": {"A": {"fixed_output": {"scale": "x"}}}},
            "fixed_output: scale must be a number",
        ),
    ],
)
def test_a_wrong_description_names_file_and_key(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(QCompileError) as caught:
        parse_target(description(**changes), "chip.toml")
    assert caught.value.code is Code.BAD_TARGET_FILE
    assert caught.value.message.startswith("chip.toml: ")
    assert says in caught.value.message


def test_a_scheme_that_the_runtime_lacks_is_refused_with_those_it_has() -> None:
    target = parse_target(description(schemes=["w8a8", "float"]), "chip.toml")
    assert target.under("w8a8") is target
    with pytest.raises(QCompileError) as caught:
        target.under("w8a16")
    assert caught.value.code is Code.SCHEME_UNSUPPORTED
    assert caught.value.message == "chip has no kernels for w8a16"
    assert caught.value.hint == "it takes w8a8, float"


def test_a_scheme_says_only_what_differs_under_it() -> None:
    over = {
        "activations": {"dtype": "int16", "symmetric": True},
        "ops": {"Resize": False, "Softmax": {"fixed_output": {"scale": 0.5}}},
        "float_ops": {"Resize": "no int16"},
    }
    tables = description(schemes=["w8a8", "w8a16"], scheme={"w8a16": over})
    target = parse_target(tables, "chip.toml")
    wide = target.under("w8a16")
    assert (target.activations.dtype, wide.activations.dtype) == ("uint8", "int16")
    assert wide.name == target.name
    assert wide.weights == target.weights
    assert wide.ops["Conv"] == target.ops["Conv"]
    assert wide.rule("Resize") is None
    assert wide.why_float("Resize") == "no int16"
    assert wide.why_float("Tanh") == "no table"
    fixed = wide.ops["Softmax"].fixed_output
    assert fixed is not None
    assert (fixed.scale, fixed.zero_point) == (0.5, 0)


def test_merge_goes_into_tables_and_replaces_all_else() -> None:
    base = {"a": 1, "t": {"x": 1, "y": [1, 2]}, "u": {"z": 1}}
    over = {"t": {"y": [3]}, "u": 5, "b": 2}
    assert merge(base, over) == {"a": 1, "t": {"x": 1, "y": [3]}, "u": 5, "b": 2}
    assert base == {"a": 1, "t": {"x": 1, "y": [1, 2]}, "u": {"z": 1}}, "the base is not changed"


def test_false_takes_a_table_away() -> None:
    base = {"ops": {"Tile": {"x": 1}, "Pad": {}}, "flag": True}
    assert merge(base, {"ops": {"Tile": False}}) == {"ops": {"Pad": {}}, "flag": True}
    assert merge(base, {"flag": False})["flag"] is False


def test_an_accelerator_is_a_table_of_its_own() -> None:
    assert parse_target(description(), "chip.toml").accelerator is None
    table = {"tool": "vela", "options": {"memory-mode": "Sram_Only"}, "kernels": "reference"}
    accelerator = parse_target(description(accelerator=table), "chip.toml").accelerator
    assert accelerator is not None
    assert accelerator.tool == "vela"
    assert accelerator.options == {"memory-mode": "Sram_Only"}
    assert accelerator.kernels == "reference"


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"tool": "velum"}, "tool must be one of vela, qnn, tflm"),
        ({}, "'tool'"),
        ({"tool": "vela", "options": {"cores": 2}}, "options must be a table of text"),
    ],
)
def test_a_wrong_accelerator_is_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(QCompileError, match=words) as caught:
        parse_target(description(accelerator=table), "chip.toml")
    assert caught.value.code is Code.BAD_TARGET_FILE
