"""Every line of operators.toml against LiteRT, and against the descriptions of the targets."""

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import OpRule
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.operator_table import (
    Form,
    Row,
    operator_table,
    parse_table,
    version_of,
    why_not,
)
from qcompile.targets.tflite.runtime import open_interpreter
from qcompile.targets.tflite.shapes import SHAPES
from qcompile.targets.tflite.table import LOWERINGS
from qcompile.targets.tflite.verifier import verify_flatbuffer
from tests.targets.tflite.one_op import SAMPLES, float_range, make, run, types_of

TABLE = operator_table()
NEWEST = "LiteRT 2.3"
PACKED = {"int4"}
"""Weights of these types are constants that DEQUANTIZE reads; it does not run them alone."""
REFERENCE_LACKS = {("ABS", "int32"), ("TILE", "int16"), ("DEPTH_TO_SPACE", "int8")}
"""Forms whose version the reference kernels do not register (a lower one loads and is right)."""
WRONG_IN_REFERENCE = {"SUM"}


def is_delegated(data: bytes) -> bool:
    details = open_interpreter(data, one_by_one=True)._get_ops_details()
    return any(entry["op_name"] == "DELEGATE" for entry in details)


def forms(row: Row) -> list[Form]:
    return [form for form in row.forms if not form.inputs[0] & PACKED]


def data_type(row: Row, form: Form) -> str:
    kinds, results = types_of(row, form, SAMPLES[row.name])
    ins = [kind for i, kind in enumerate(kinds) if row.role(i) == "data"]
    return [*ins, *results][0]


def largest_difference(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return max(
        float(np.abs(x.astype(float) - y.astype(float)).max()) for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("op", TABLE)
def test_every_form_loads_and_is_delegated_as_stated(op: str) -> None:
    row = TABLE[op]
    span = float_range(op)
    for form in forms(row):
        made = make(op, form, output_range=span)
        run(made, "xnnpack")
        assert is_delegated(made.data) == form.xnnpack, form


@pytest.mark.parametrize("op", TABLE)
def test_kernels_deviate_no_more_than_stated(op: str) -> None:
    row = TABLE[op]
    span = float_range(op)
    for form in forms(row):
        kind = data_type(row, form)
        if (op, kind) in REFERENCE_LACKS or not row.reference:
            continue
        for seed in range(3):
            made = make(op, form, seed, output_range=span)
            reference = run(made, "reference")
            for kernels, steps in (("builtin", row.lsb_builtin), ("xnnpack", row.lsb_xnnpack)):
                got = run(made, kernels)  # type: ignore[arg-type]
                if form_is_hybrid(row, form):
                    peak = float(np.abs(reference[0]).max())
                    assert largest_difference(got, reference) < 0.02 * peak
                elif got[0].dtype.kind == "f":
                    np.testing.assert_allclose(got[0], reference[0], rtol=1e-5, atol=1e-5)
                elif kind == "int8":
                    assert largest_difference(got, reference) <= steps, (kernels, form)


def form_is_hybrid(row: Row, form: Form) -> bool:
    """Float activations and integer weights: each kernel quantizes the activations its own way."""
    return (
        row.weight_axis is not None
        and "float32" in form.inputs[0]
        and form.inputs[1] != {"float32"}
    )


@pytest.mark.parametrize("op", [op for op, row in TABLE.items() if not row.reference])
def test_reference_kernels_lack_it_or_are_wrong(op: str) -> None:
    row = TABLE[op]
    form = forms(row)[0]
    made = make(op, form, output_range=float_range(op))
    if op in WRONG_IN_REFERENCE:
        wrong = largest_difference(run(made, "reference"), run(made, "builtin"))
        assert wrong > 10, "they are right now: say so in the table"
        return
    with pytest.raises(QCompileError) as caught:
        run(made, "reference")
    assert caught.value.code is Code.RUNTIME_REFUSED


@pytest.mark.parametrize("op", TABLE)
def test_the_verifier_finds_every_form_sound(op: str) -> None:
    for form in forms(TABLE[op]):
        data = make(op, form, output_range=float_range(op)).data
        assert verify_flatbuffer(data, runtime=NEWEST) == []


# --- scales ----------------------------------------------------------------------------------


def with_ratio(op: str, ratio: float) -> bytes:
    """A model whose ratio, as the row counts it, is ``ratio``; every other scale is 1."""
    builder, shape = Builder(), (1, 2, 2, 4)
    scale = Quantization.of(np.float32(ratio), np.zeros(()))
    one = Quantization.of(np.float32(1), np.zeros(()))
    x = builder.tensor("x", shape, "int8", scale)
    feeds, inputs, options = [x], [x], None
    if op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
        dims = {"CONV_2D": (4, 1, 1, 4), "DEPTHWISE_CONV_2D": (1, 1, 1, 4)}.get(op, (4, 4))
        axis = TABLE[op].weight_axis or 0
        ones = Quantization.of(np.ones(4), np.zeros(4), axis)
        inputs.append(builder.tensor("w", dims, "int8", ones, np.ones(dims, np.int8)))
        biases = Quantization.of(np.full(4, scale.scale[0]), np.zeros(4))
        inputs.append(builder.tensor("b", (4,), "int32", biases, np.zeros(4, np.int32)))
        window = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
        name = {"CONV_2D": "Conv2D", "DEPTHWISE_CONV_2D": "DepthwiseConv2D"}.get(op)
        options = Options(f"{name}Options", window) if name else None
        options = options or Options("FullyConnectedOptions", {"keepNumDims": True})
        if op == "DEPTHWISE_CONV_2D":
            options = Options("DepthwiseConv2DOptions", {**window, "depthMultiplier": 1})
    elif op in ("ADD", "SUB", "MUL"):
        inputs.append(builder.tensor("x2", shape, "int8", one))
        feeds.append(inputs[-1])
        options = Options(f"{op.title()}Options", {})
    elif op == "LEAKY_RELU":
        options = Options("LeakyReluOptions", {"alpha": 1.0})
    y = builder.tensor("y", shape, "int8", one)
    builder.operator(op, inputs, [y], options, version=TABLE[op].forms[0].version)
    names = [f"in{i}" for i in range(len(feeds))]
    return builder.finish(feeds, [y], names=(names, ["y"]), description="ratio")


SMALL_RATIOS = ["ADD", "SUB", "MUL", "QUANTIZE", "LEAKY_RELU"]


@pytest.mark.parametrize("op", SMALL_RATIOS)
def test_xnnpack_takes_scales_inside_the_ratio_and_none_outside(op: str) -> None:
    ratio = TABLE[op].ratio
    assert ratio is not None and not ratio.required
    below, above = ratio.low * 0.999, np.nextafter(np.float32(ratio.high), np.float32(np.inf))
    assert is_delegated(with_ratio(op, ratio.low))
    assert is_delegated(with_ratio(op, ratio.high * 0.999))
    assert not is_delegated(with_ratio(op, below))
    assert not is_delegated(with_ratio(op, float(above)))


@pytest.mark.parametrize("op", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"])
def test_a_multiplier_of_256_does_not_load_under_xnnpack(op: str) -> None:
    ratio = TABLE[op].ratio
    assert ratio is not None and ratio.required
    assert is_delegated(with_ratio(op, ratio.high * 0.999))
    with pytest.raises(QCompileError) as caught:
        open_interpreter(with_ratio(op, ratio.high))
    assert caught.value.code is Code.RUNTIME_REFUSED
    assert any("256 times" in fault.rule for fault in verify_flatbuffer(with_ratio(op, ratio.high)))


@pytest.mark.parametrize(("count", "taken"), [(2, True), (5, True), (6, False)])
def test_xnnpack_concatenates_up_to_five(count: int, taken: bool) -> None:
    builder, q = Builder(), Quantization.of(np.float32(1), np.zeros(()))
    inputs = [builder.tensor(f"x{i}", (1, 4), "int8", q) for i in range(count)]
    y = builder.tensor("y", (1, 4 * count), "int8", q)
    builder.operator(
        "CONCATENATION", inputs, [y], Options("ConcatenationOptions", {"axis": 1}), version=2
    )
    names = [f"x{i}" for i in range(count)]
    data = builder.finish(inputs, [y], names=(names, ["y"]), description="concatenation")
    assert is_delegated(data) == taken


# --- the table itself ------------------------------------------------------------------------


def test_every_operator_has_a_sample_and_a_known_shape() -> None:
    assert set(SAMPLES) == set(TABLE)
    for row in TABLE.values():
        assert row.shape == "" or row.shape in SHAPES, row.name
        assert row.forms, row.name
    assert sum(row.exact for row in TABLE.values()) >= 25


def test_every_form_is_known_to_the_newest_runtime() -> None:
    for row in TABLE.values():
        for form in row.forms:
            assert form.version <= row.newest[NEWEST], (row.name, form)
            assert list(row.newest.values()) == sorted(row.newest.values()), row.name


def test_why_an_operator_that_xnnpack_does_not_take_in_int8_is_said() -> None:
    for row in TABLE.values():
        small = [f for f in row.forms if "int8" in f.inputs[0] and "int8" in f.outputs[0]]
        if any(not form.xnnpack for form in small) or row.ratio is not None:
            assert row.declines or row.name == "BATCH_MATMUL", row.name


def test_versions_and_refusals() -> None:
    assert version_of(TABLE, "CONV_2D", ["int8", "int8", "int32"], ["int8"]) == 3
    assert version_of(TABLE, "FULLY_CONNECTED", ["int8", "int8", None], ["int8"]) == 4
    assert version_of(TABLE, "FULLY_CONNECTED", ["int8", "int8"], ["int8"]) == 4
    assert version_of(TABLE, "CONV_2D", ["int8", "int8"], ["int8"]) is None
    assert version_of(TABLE, "CONCATENATION", ["int8"] * 7, ["int8"]) == 2
    assert version_of(TABLE, "DEQUANTIZE", ["int8"], ["float32"]) == 2
    assert why_not(TABLE, "ADD", ["int8", "int8"], ["int8"], "2.14") is None
    assert why_not(TABLE, "LOG", ["int8"], ["int8"], "LiteRT 1.0") is None
    assert why_not(TABLE, "LOG", ["int8"], ["int8"], "2.14") == (
        "LOG on int8 is version 2; 2.14 knows 1 at most"
    )
    assert why_not(TABLE, "DIV", ["int8", "int8"], ["int8"], "2.14") == (
        "DIV does not take int8 int8 -> int8"
    )
    assert why_not(TABLE, "MISH", ["int8"], ["int8"], "2.14") == "MISH is not in the operator table"


@pytest.mark.parametrize(
    ("op", "inputs", "output"),
    [
        ("DIV", ["int8", "int8"], "int8"),
        ("NEG", ["int8"], "int8"),
        ("PRELU", ["int16", "int16"], "int16"),
        ("HARD_SWISH", ["int16"], "int16"),
        ("CONV_2D", ["int16", "int8", "int32"], "int16"),
        ("FULLY_CONNECTED", ["int16", "int8", "int32"], "int16"),
        ("DEPTHWISE_CONV_2D", ["int16", "int8", "int32"], "int16"),
        ("DEPTHWISE_CONV_2D", ["int16", "int4", "int64"], "int16"),
        ("TRANSPOSE_CONV", ["int32", "int8", "int16", "int32"], "int16"),
        ("GELU", ["int16"], "int16"),
        ("EXP", ["int16"], "int16"),
        ("CONV_2D", ["int8", "int8"], "int8"),
        ("DEPTH_TO_SPACE", ["int16"], "int16"),
    ],
)
def test_what_is_silently_wrong_or_does_not_load_has_no_form(
    op: str, inputs: list[str], output: str
) -> None:
    assert TABLE[op].form(inputs, [output]) is None


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ({}, "schema must be 1"),
        ({"schema": 1}, "runtimes are missing"),
        (
            {"schema": 1, "runtimes": ["2.14"], "ADD": {"speed": 1}},
            "ADD: unknown key 'speed'",
        ),
        (
            {"schema": 1, "runtimes": ["2.14"], "ADD": {"inputs": ["thing"], "newest": 1}},
            "'thing' is no role",
        ),
        (
            {"schema": 1, "runtimes": ["2.14"], "ADD": {"inputs": ["data"], "newest": [1, 2]}},
            "newest must be one number or one for each of 2.14",
        ),
        (
            {
                "schema": 1,
                "runtimes": ["2.14"],
                "ADD": {"inputs": ["data"], "newest": 1, "forms": ["int8 int8"]},
            },
            "'int8 int8' is no form",
        ),
        ({"schema": 1, "runtimes": ["2.14"], "ADD": {"newest": 1}}, "inputs"),
    ],
)
def test_a_malformed_table_is_named(data: dict[str, object], what: str) -> None:
    with pytest.raises(QCompileError) as caught:
        parse_table(data, "operators.toml")
    assert caught.value.code is Code.BAD_TARGET_FILE
    assert what in caught.value.message


# --- the descriptions of the targets ----------------------------------------------------------

TARGET = load_target("tflite-arm64")
OPEN_KERNELS = {"AveragePool": {"DEPTHWISE_CONV_2D"}, "Clip": {"MAXIMUM", "MINIMUM"}}
"""Kernels that a composed form uses besides the op's own."""


@pytest.mark.parametrize("op", TARGET.ops)
def test_a_rule_says_what_its_kernels_do(op: str) -> None:
    rule: OpRule = TARGET.ops[op]
    if rule.kernels == ("GATHER",) and op != "Gather":
        return  # moves integers out of a table
    rows = [TABLE[k] for k in rule.kernels if k not in OPEN_KERNELS.get(op, set())]
    for row in rows:
        assert row.same == rule.same_parameters, row.name
        assert bool(row.fixed.get("int8")) == (rule.fixed_output is not None)
        if rule.fixed_output is not None:
            assert row.fixed["int8"] == (rule.fixed_output.scale, rule.fixed_output.zero_point)
    if rule.per_channel:
        assert any(row.weight_axis is not None for row in rows)


def test_every_op_with_a_rule_is_written() -> None:
    assert set(TARGET.ops) <= set(LOWERINGS)


def test_every_kernel_of_a_rule_runs_integers_on_the_oldest_runtime() -> None:
    for op, rule in TARGET.ops.items():
        for kernel in rule.kernels:
            row = TABLE[kernel]
            sound = [
                form
                for form in row.forms
                if any("int8" in kinds for kinds in form.inputs)
                and form.version <= row.newest[TARGET.min_runtime]
            ]
            assert sound or (op, kernel) == ("Neg", "NEG"), (op, kernel)
