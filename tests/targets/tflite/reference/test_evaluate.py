"""The evaluator: names, missing inputs, unknown operators, packed weights, every tensor."""

import flatbuffers
import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.reference.evaluate import run, trace
from qcompile.targets.tflite.reference.model import read
from qcompile.targets.tflite.reference.table import KERNELS
from qcompile.targets.tflite.schema import schema
from tests.targets.tflite.reference.one_op import OneOp, Spec, litert

RELU = Options("QuantizeOptions", {})


def two_quantizes() -> bytes:
    builder = Builder()
    params = [Quantization.of(np.float32(s), np.asarray(z)) for s, z in ((0.1, 3), (0.2, -5))]
    x = builder.tensor("x", (2, 3), "float32")
    h = builder.tensor("h", (2, 3), "int8", params[0])
    y = builder.tensor("y", (2, 3), "int8", params[1])
    builder.operator("QUANTIZE", [x], [h], RELU)
    builder.operator("QUANTIZE", [h], [y], RELU)
    return builder.finish([x], [y], names=(["input"], ["output"]), description="two")


def test_names_of_the_signature() -> None:
    x = np.linspace(-5, 5, 6, dtype=np.float32).reshape(2, 3)
    found = run(two_quantizes(), {"input": x})
    assert list(found) == ["output"]
    assert np.array_equal(
        found["output"], litert(two_quantizes(), {"input": x}, "reference")["output"]
    )


def test_every_tensor() -> None:
    held = trace(two_quantizes(), {"input": np.full((2, 3), 0.5, np.float32)})
    assert {name: array.dtype.name for name, array in held.items()} == {
        "x": "float32",
        "h": "int8",
        "y": "int8",
    }
    assert held["h"].tolist() == [[8] * 3] * 2


def test_names_of_tensors_where_there_is_no_signature() -> None:
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(bytearray(two_quantizes()), 0))
    model.signatureDefs = None

    builder = flatbuffers.Builder(0)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    read_again = read(bytes(builder.Output()))
    assert (list(read_again.inputs), list(read_again.outputs)) == (["x"], ["y"])


def test_missing_input() -> None:
    with pytest.raises(QCompileError, match="no array for the input input") as caught:
        run(two_quantizes(), {})
    assert caught.value.code is Code.DATA_NAMES


def test_not_a_model() -> None:
    with pytest.raises(QCompileError) as caught:
        run(b"nothing of the kind", {})
    assert caught.value.code is Code.NOT_A_MODEL


def test_unknown_operator() -> None:
    assert "HASHTABLE_LOOKUP" not in KERNELS
    spec = Spec((1,), "float32")
    one = OneOp("HASHTABLE_LOOKUP", [spec], [spec], {"in0": np.zeros(1, np.float32)})
    with pytest.raises(QCompileError, match="HASHTABLE_LOOKUP has no numpy reference"):
        run(one.data(), one.feeds)


@pytest.mark.parametrize("op", ["SQRT", "RSQRT"])
def test_roots_of_negative_numbers_stop(op: str) -> None:
    spec = Spec((2,), "int8", 0.1, 0)
    one = OneOp(op, [spec], [spec], {"in0": np.asarray([-1, 4], np.int8)})
    with pytest.raises(QCompileError, match="negative"):
        run(one.data(), one.feeds)


def test_integer_division_is_refused() -> None:
    spec = Spec((2,), "int8", 0.1, 0)
    fed = {"in0": np.ones(2, np.int8), "in1": np.ones(2, np.int8)}
    one = OneOp("DIV", [spec, spec], [spec], fed, Options("DivOptions", {}))
    with pytest.raises(QCompileError, match="wrong quotients"):
        run(one.data(), one.feeds)


def test_sums_of_16_bits_on_powers_without_the_option_are_refused() -> None:
    spec = Spec((2,), "int16", 0.25, 0)
    fed = {"in0": np.ones(2, np.int16), "in1": np.ones(2, np.int16)}
    options = Options("AddOptions", {"potScaleInt16": True})
    with pytest.raises(QCompileError, match="potScaleInt16"):
        run(OneOp("ADD", [spec, spec], [spec], fed, options, 3).data(), fed)


@pytest.mark.parametrize(("dtype", "per_byte", "version"), [("int4", 2, 9), ("int2", 4, 14)])
def test_packed_weights(dtype: str, per_byte: int, version: int) -> None:
    rng = np.random.default_rng(0)
    bits = 8 // per_byte
    w = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (6, 8)).astype(np.int8)
    fields = (w.reshape(-1, per_byte) & ((1 << bits) - 1)).astype(np.uint8)
    packed = (fields << np.arange(0, 8, bits, dtype=np.uint8)).sum(axis=1).astype(np.uint8)
    scales = rng.uniform(0.01, 0.02, 6).astype(np.float32)
    x = rng.integers(-128, 128, (3, 8)).astype(np.int8)
    one = OneOp(
        "FULLY_CONNECTED",
        [Spec((3, 8), "int8", 0.05, 7), Spec((6, 8), dtype, scales, 0, 0, packed), None],
        [Spec((3, 6), "int8", 0.1, -3)],
        {"in0": x},
        Options("FullyConnectedOptions", {"keepNumDims": False}),
        version,
    )
    ours = run(one.data(), one.feeds)["out0"]
    real = (x.astype(np.float64) - 7) * 0.05 @ (w * scales[:, None].astype(np.float64)).T
    assert np.abs(ours - np.clip(real / 0.1 - 3, -128, 127)).max() <= 0.51
    theirs = litert(one.data(), one.feeds, "reference")["out0"]
    assert np.array_equal(ours, theirs)
