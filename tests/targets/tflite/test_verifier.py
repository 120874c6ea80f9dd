"""Each rule of the verifier: a planted fault is caught, and sound files pass."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.targets.tflite import verifier
from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflite.rules import RULES
from qcompile.targets.tflite.runtime import TfliteSession, open_interpreter
from qcompile.targets.tflite.schema import builtin_code, tensor_type
from qcompile.targets.tflite.verifier import TENSOR_RULES, Fault, verify_flatbuffer
from tests.targets.tflite import sound as m
from tests.targets.tflite.sound import changed, q, sound

Change = Callable[[Any], None]


def tensor(index: int, **fields: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].tensors[index], name, value)

    return change


def parameters(index: int, **fields: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].tensors[index].quantization, name, value)

    return change


def scale(index: int, *values: float) -> Change:
    return parameters(index, scale=np.array(values, np.float32))


def zero(index: int, *values: int) -> Change:
    return parameters(index, zeroPoint=np.array(values, np.int64))


def operator(index: int, **fields: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].operators[index], name, value)

    return change


def option(index: int, **fields: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0].operators[index].builtinOptions, name, value)

    return change


def code(index: int, **fields: Any) -> Change:
    def change(model: Any) -> None:
        entry = model.operatorCodes[model.subgraphs[0].operators[index].opcodeIndex]
        for name, value in fields.items():
            setattr(entry, name, value)

    return change


def model_field(**fields: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model, name, value)

    return change


def graph_field(**fields: Any) -> Change:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0], name, np.array(value, np.int32))

    return change


def no_parameters(index: int) -> Change:
    return tensor(index, quantization=None)


def computed(index: int) -> Change:
    return tensor(index, buffer=0)


def two_graphs(model: Any) -> None:
    model.subgraphs = [model.subgraphs[0], model.subgraphs[0]]


def renamed_operator(index: int, name: str) -> Change:
    number = builtin_code(name)
    return code(index, builtinCode=number, deprecatedBuiltinCode=min(number, 127))


def no_signature_input(model: Any) -> None:
    model.signatureDefs[0].inputs = model.signatureDefs[0].inputs[:1]


I32 = np.int32
RULE = {rule: rule for rule, _ in (*RULES, *TENSOR_RULES)}
PARTS = [*RULE, verifier.EXISTS, verifier.ORDERED, verifier.ONCE, verifier.MADE]


def rule(part: str) -> str:
    """The one rule that holds these words."""
    found = [text for text in PARTS if part in text]
    assert len(found) == 1, (part, found)
    return found[0]


PLANTED: dict[str, tuple[str, Change]] = {
    # the file
    "schema version": ("the schema's version is 3", model_field(version=2)),
    "two graphs": ("the file holds one graph", two_graphs),
    "signature": ("a signature names", no_signature_input),
    # tensors
    "unknown type": (rule("element type is known"), tensor(m.SUM, type=22)),
    "negative dimension": (
        rule("every dimension is a number"),
        tensor(m.SUM, shape=np.array([-1, 2, 2, 4], I32)),
    ),
    "bytes of a constant": (
        rule("as many bytes"),
        tensor(m.CONV_WEIGHT, shape=np.array([4, 3, 3, 3], I32)),
    ),
    "int64 type on int32 bytes": (
        rule("as many bytes"),
        tensor(m.CONV_BIAS, type=tensor_type("int64")),
    ),
    "scale 0": (rule("scales are positive"), scale(m.CONV_WEIGHT, 0.01, 0, 0.01, 0.01)),
    "negative scale": (rule("scales are positive"), scale(m.SUM, -0.1)),
    "infinite scale": (rule("scales are positive"), scale(m.SUM, np.inf)),
    "subnormal scale": (rule("scales are positive"), scale(m.SUM, 1e-40)),
    "no zero points": (rule("a zero point for every scale"), zero(m.SUM)),
    "one zero point for four scales": (
        rule("a zero point for every scale"),
        zero(m.CONV_WEIGHT, 0),
    ),
    "zero point beyond the type": (rule("zero points are integers"), zero(m.SUM, 128)),
    "three scales for four channels": (
        rule("as many scales as the axis"),
        lambda model: (
            scale(m.CONV_WEIGHT, 0.1, 0.1, 0.1)(model),
            zero(m.CONV_WEIGHT, 0, 0, 0)(model),
        ),
    ),
    "axis beyond the rank": (
        rule("as many scales as the axis"),
        parameters(m.CONV_WEIGHT, quantizedDimension=4),
    ),
    # wiring
    "index beyond the tensors": (
        verifier.EXISTS,
        operator(m.ADD_OP, inputs=np.array([3, 99], I32)),
    ),
    "output left out": (verifier.EXISTS, operator(m.ADD_OP, outputs=np.array([-1], I32))),
    "read before made": (verifier.ORDERED, operator(m.ADD_OP, inputs=np.array([3, m.FC], I32))),
    "made twice": (verifier.ONCE, operator(m.ADD_OP, outputs=np.array([m.CONV], I32))),
    "a constant is made": (verifier.ONCE, operator(m.ADD_OP, outputs=np.array([m.FC_BIAS], I32))),
    "nothing makes the output": (verifier.MADE, graph_field(outputs=[m.SHAPE])),
    # operators
    "unknown operator": ("one of the operator table", renamed_operator(m.ADD_OP, "HASHTABLE")),
    "int8 division": (rule("element types of one"), renamed_operator(m.ADD_OP, "DIV")),
    "no bias": (
        rule("element types of one"),
        operator(m.CONV_OP, inputs=np.array([0, 1], I32)),
    ),
    "bias left out": (
        rule("element types of one"),
        operator(m.CONV_OP, inputs=np.array([0, 1, -1], I32)),
    ),
    "mixed types": (rule("element types of one"), tensor(m.OTHER, type=tensor_type("uint8"))),
    "version beyond the runtime": (rule("version is one"), code(m.ADD_OP, version=6)),
    "version 0": (rule("version is one"), code(m.ADD_OP, version=0)),
    "computed shape": (
        rule("are constants"),
        lambda model: (
            computed(m.SHAPE)(model),
            graph_field(inputs=[m.X, m.OTHER, m.SHAPE])(model),
            model_field(signatureDefs=None)(model),
        ),
    ),
    "no parameters": (rule("have a scale"), no_parameters(m.SUM)),
    "weights without parameters": (rule("have a scale"), no_parameters(m.CONV_WEIGHT)),
    "bias without parameters": (rule("have a scale"), no_parameters(m.CONV_BIAS)),
    "activation per channel": (
        rule("have one scale"),
        lambda model: (
            parameters(m.OTHER, quantizedDimension=3)(model),
            scale(m.OTHER, 1, 1, 1, 1)(model),
            zero(m.OTHER, 0, 0, 0, 0)(model),
        ),
    ),
    "weights per input channel": (
        rule("along the operator's axis"),
        lambda model: (
            parameters(m.CONV_WEIGHT, quantizedDimension=3)(model),
            scale(m.CONV_WEIGHT, 1, 1)(model),
            zero(m.CONV_WEIGHT, 0, 0)(model),
        ),
    ),
    "zero point of weights": (rule("biases have zero point 0"), zero(m.CONV_WEIGHT, 0, 0, 1, 0)),
    "zero point of a bias": (rule("biases have zero point 0"), zero(m.FC_BIAS, 1)),
    "bias scale": (rule("a bias has the scale"), scale(m.FC_BIAS, 0.01)),
    "bias with one scale": (
        rule("a bias has the scale"),
        lambda model: (scale(m.CONV_BIAS, 0.0005)(model), zero(m.CONV_BIAS, 0)(model)),
    ),
    "concatenation of unequal scales": (rule("equal parameters"), scale(m.BOTH, 0.3)),
    "reshape to another zero point": (rule("equal parameters"), zero(m.FLAT, -4)),
    "softmax scale": (rule("takes for granted"), scale(m.SOFTMAX, 1 / 255)),
    "softmax zero point": (rule("takes for granted"), zero(m.SOFTMAX, 0)),
    "fused tanh": (rule("a fused activation"), option(m.CONV_OP, fusedActivationFunction=4)),
    "fused in a concatenation": (
        rule("a fused activation"),
        option(m.CONCAT_OP, fusedActivationFunction=1),
    ),
    "root of negatives": (rule("a root is taken"), renamed_operator(m.SOFTMAX_OP, "SQRT")),
    "multiplier of 256": (rule("under 256"), scale(m.CONV, 0.05 * 0.01 / 256)),
    "shape of a convolution": (
        rule("an output has the shape"),
        tensor(m.CONV, shape=np.array([1, 4, 4, 4], I32)),
    ),
    "shape of a broadcast": (
        rule("an output has the shape"),
        tensor(m.OTHER, shape=np.array([1, 2, 2, 3], I32)),
    ),
    "shape of a reshape": (
        rule("an output has the shape"),
        tensor(m.FLAT, shape=np.array([2, 8], I32)),
    ),
}

WIDE: dict[str, tuple[str, Change]] = {
    "int16 zero point": (rule("int16 activations"), zero(m.SUM, 1)),
    "int16 convolution with an int32 bias": (
        rule("element types of one"),
        lambda model: (
            tensor(m.CONV_BIAS, type=tensor_type("int32"))(model),
            tensor(m.CONV_BIAS, shape=np.array([8], I32))(model),
            parameters(m.CONV_BIAS, scale=np.full(8, 1e-3, np.float32))(model),
            parameters(m.CONV_BIAS, zeroPoint=np.zeros(8, np.int64))(model),
        ),
    ),
    "int16 softmax parameters": (rule("takes for granted"), scale(m.SOFTMAX, 1 / 256)),
}


def rules_of(faults: list[Fault]) -> str:
    return " | ".join(str(fault) for fault in faults)


@pytest.mark.parametrize("integer", ["int8", "int16"])
def test_the_sound_model_passes_and_runs(integer: str) -> None:
    data = sound(integer)
    assert verify_flatbuffer(data) == []
    feeds = {
        "x": np.ones((1, 4, 4, 2), integer),
        "other": np.ones((1, 2, 2, 4), integer),
    }
    results = [TfliteSession(data, kernels).run(feeds)[0] for kernels in ("reference", "xnnpack")]
    assert np.abs(results[0].astype(int) - results[1].astype(int)).max() <= 1


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_fault_is_caught(name: str) -> None:
    wanted, change = PLANTED[name]
    faults = verify_flatbuffer(changed(sound(), change))
    assert any(wanted in fault.rule for fault in faults), rules_of(faults) or "nothing was found"
    assert all(str(fault) for fault in faults)


@pytest.mark.parametrize("name", WIDE)
def test_a_fault_of_int16_is_caught(name: str) -> None:
    wanted, change = WIDE[name]
    faults = verify_flatbuffer(changed(sound("int16"), change))
    assert any(wanted in fault.rule for fault in faults), rules_of(faults) or "nothing was found"


def test_every_rule_has_a_planted_fault() -> None:
    planted = {wanted for wanted, _ in (*PLANTED.values(), *WIDE.values())}
    elsewhere = {rule("4-bit weights")}
    assert set(PARTS) - planted == elsewhere


def test_the_identifier_and_the_offsets_are_checked() -> None:
    data = changed(sound(), lambda model: None, identifier=b"XXXX")
    (fault,) = verify_flatbuffer(data)
    assert "TFL3" in fault.found
    assert verify_flatbuffer(b"")
    (fault,) = verify_flatbuffer(sound()[:300])
    assert "damaged" in fault.found


def test_a_fault_says_where() -> None:
    (fault,) = verify_flatbuffer(changed(sound(), scale(m.BOTH, 0.3)))[:1]
    assert (fault.operator, fault.name, fault.tensor) == (m.CONCAT_OP, "CONCATENATION", "both")
    assert str(fault) == (
        "operator 4 CONCATENATION, tensor 'both': an operator that moves integers has equal "
        "parameters on all sides; found: scale 0.300000012 zero point 4, not scale 0.200000003 "
        "zero point 4"
    )


LOADS = ["bias with one scale", "reshape to another zero point", "version beyond the runtime"]
"""Faults that LiteRT 2.3 loads without a word: what the verifier is for."""


@pytest.mark.parametrize("name", LOADS)
def test_the_runtime_does_not_look(name: str) -> None:
    open_interpreter(changed(sound(), PLANTED[name][1]), "builtin")


# --- the operands of BATCH_MATMUL, 4-bit weights ------------------------------------------------


def test_batch_matmul_with_scales_a_channel_is_caught() -> None:
    b = Builder()
    x = b.tensor("x", (1, 4, 8), "int8", q(0.1))
    scales = Quantization.of(np.full(8, 0.1, np.float32), np.zeros(8), 2)
    w = b.tensor("w", (1, 8, 8), "int8", scales, np.ones((1, 8, 8), np.int8))
    y = b.tensor("y", (1, 4, 8), "int8", q(0.1))
    b.operator("BATCH_MATMUL", [x, w], [y], Options("BatchMatMulOptions", {}), version=2)
    faults = verify_flatbuffer(b.finish([x], [y], names=(["x"], ["y"]), description="t"))
    assert [fault.rule for fault in faults] == [rule("have one scale")]


@pytest.mark.parametrize(("least", "is_sound"), [(-7, True), (-8, False)])
def test_a_4_bit_weight_of_minus_8_is_caught(least: int, is_sound: bool) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(least, 8, (16, 64))
    nibbles = (weights & 15).astype(np.uint8).reshape(-1)
    b = Builder()
    x = b.tensor("x", (1, 64), "float32")
    w = b.tensor("w", (16, 64), "int4", q(0.1), nibbles[0::2] | (nibbles[1::2] << 4))
    y = b.tensor("y", (1, 16), "float32")
    fields = Options("FullyConnectedOptions", {})
    b.operator("FULLY_CONNECTED", [x, w, -1], [y], fields, version=9)
    data = b.finish([x], [y], names=(["x"], ["y"]), description="t")
    faults = verify_flatbuffer(data)
    assert [fault.rule for fault in faults] == ([] if is_sound else [rule("4-bit weights")])
    real = rng.uniform(-4, 4, (1, 64)).astype(np.float32)
    (got,) = TfliteSession(data, "xnnpack").run({"x": real})
    np.testing.assert_allclose(got, real @ weights.T * 0.1, atol=0.2)


# --- damage -----------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_end_in_faults_and_never_in_a_crash(data: st.DataObject) -> None:
    whole = bytearray(sound())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    end = data.draw(st.integers(8, len(whole)))
    for fault in verify_flatbuffer(bytes(whole[:end])):
        assert str(fault)


# --- real files -------------------------------------------------------------------------------


def real_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.tflite"))


@pytest.mark.models
def test_real_files_are_sound(models_dir: Path) -> None:
    files = real_files(models_dir)
    assert len(files) >= 9
    for file in files:
        assert verify_flatbuffer(file.read_bytes()) == [], file.name


@pytest.mark.models
def test_every_bias_of_a_real_file_is_watched(models_dir: Path) -> None:
    file = models_dir / "mobilenet_v2" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    graph = read_graph(file.read_bytes())
    biases = [op.inputs[2] for op in graph.operators if "CONV_2D" in op.name]
    assert len(biases) > 50
    for index in biases[::10]:
        wrong = np.asarray(graph.tensors[index].quantization.scale * 2)  # type: ignore[union-attr]
        faults = verify_flatbuffer(
            changed(file.read_bytes(), parameters(index, scale=wrong.astype(np.float32)))
        )
        assert {fault.rule for fault in faults} == {rule("a bias has the scale")}
        assert {fault.tensor for fault in faults} == {graph.tensors[index].name}


def test_a_runtime_that_the_table_does_not_know_is_taken_for_the_oldest() -> None:
    data = changed(sound(), code(m.ADD_OP, version=6))
    assert verify_flatbuffer(data, runtime="LiteRT 2.3") == []
    assert verify_flatbuffer(data, runtime="my own")
