"""The flatbuffer: alignment, sharing, what is left out, sizes, bytes that repeat."""

import flatbuffers
import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite import builder as module
from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.schema import schema

ADD = Options("AddOptions", {"fusedActivationFunction": 0})


def chain(*constants: np.ndarray) -> tuple[Builder, int, int]:
    """x + c0 + c1..."""
    made = Builder()
    x = made.tensor("x", (4, 8), "float32")
    last = x
    for number, array in enumerate(constants):
        c = made.tensor(f"c{number}", array.shape, "float32", data=array)
        y = made.tensor(f"y{number}", (4, 8), "float32")
        made.operator("ADD", [last, c], [y], ADD)
        last = y
    return made, x, last


def finish(made: Builder, x: int, y: int) -> bytes:
    return made.finish([x], [y], names=(["in"], ["out"]), description="test")


def read(data: bytes) -> object:
    return schema().ModelT.InitFromObj(schema().Model.GetRootAsModel(data, 0))


def floats(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_bytes_repeat() -> None:
    constants = [floats(0, 4, 8), floats(1, 8)]
    assert finish(*chain(*constants)) == finish(*chain(*constants))


@pytest.mark.parametrize("size", [1, 3, 8, 100, 1001])
def test_buffers_are_aligned(size: int) -> None:
    made = Builder()
    x = made.tensor("x", (1,), "int8")
    last = x
    for number in range(3):
        data = np.arange(size + number, dtype=np.int8)
        c = made.tensor(f"c{number}", data.shape, "int8", data=data)
        y = made.tensor(f"y{number}", (1,), "int8")
        made.operator("ADD", [last, c], [y], ADD)
        last = y
    data = finish(made, x, last)
    model = schema().Model.GetRootAsModel(data, 0)
    filled = [model.Buffers(i) for i in range(model.BuffersLength())]
    starts = [b._tab.Vector(b._tab.Offset(4)) for b in filled if b.DataLength()]
    assert len(starts) == 3
    assert all(start % 16 == 0 for start in starts)


def test_equal_constants_share_a_buffer() -> None:
    once, twice = floats(0, 4, 8), floats(0, 4, 8)
    model = read(finish(*chain(once, twice, floats(1, 4, 8))))
    tensors = model.subgraphs[0].tensors
    buffers = {t.name: t.buffer for t in tensors}
    assert buffers[b"c0"] == buffers[b"c1"] != buffers[b"c2"]
    assert buffers[b"x"] == buffers[b"y0"] == 0
    assert len(model.buffers) == 3


def test_what_nothing_reads_is_left_out() -> None:
    made, x, y = chain(floats(0, 4, 8))
    unused = made.tensor("unused", (8,), "float32", data=floats(1, 8))
    dead = made.tensor("dead", (4, 8), "float32")
    made.operator("MUL", [x, unused], [dead], Options("MulOptions", {}))
    model = read(finish(made, x, y))
    assert {t.name for t in model.subgraphs[0].tensors} == {b"x", b"c0", b"y0"}
    assert len(model.subgraphs[0].operators) == len(model.operatorCodes) == 1


def test_an_input_that_nothing_reads_stays() -> None:
    made, x, y = chain(floats(0, 4, 8))
    other = made.tensor("other", (2,), "float32")
    data = made.finish([x, other], [y], names=(["in", "other"], ["out"]), description="")
    model = read(data)
    assert [model.subgraphs[0].tensors[i].name for i in model.subgraphs[0].inputs] == [
        b"x",
        b"other",
    ]


def test_names_are_unique_and_ends_keep_theirs() -> None:
    made = Builder()
    first, second = made.tensor("a", (1,), "int8"), made.tensor("a", (1,), "int8")
    assert [t.name for t in made.tensors] == ["a", "a_1"]
    made.rename(second, "a")
    assert made.tensors[second].name == "a"
    assert made.tensors[first].name not in ("a", "a_1")


def test_signature_and_metadata() -> None:
    made, x, y = chain(floats(0, 4, 8))
    made.metadata("key", b"some bytes")
    model = read(finish(made, x, y))
    signature = model.signatureDefs[0]
    assert [(e.name, e.tensorIndex) for e in signature.inputs] == [(b"in", 0)]
    assert signature.outputs[0].name == b"out"
    entry = model.metadata[0]
    assert (entry.name, bytes(model.buffers[entry.buffer].data)) == (b"key", b"some bytes")
    assert (model.version, model.description) == (3, b"test")
    assert finish(made, x, y)[4:8] == b"TFL3"


def test_operators_above_127_keep_their_code_for_old_runtimes() -> None:
    made = Builder()
    x, y = made.tensor("x", (2, 2), "float32"), made.tensor("y", (2, 2), "float32")
    made.operator("GELU", [x], [y], Options("GeluOptions", {}), version=1)
    code = read(finish(made, x, y)).operatorCodes[0]
    assert (code.deprecatedBuiltinCode, code.builtinCode) == (127, 150)


def test_unknown_field_is_our_error() -> None:
    made = Builder()
    x, y = made.tensor("x", (1,), "float32"), made.tensor("y", (1,), "float32")
    made.operator("ADD", [x, x], [y], Options("AddOptions", {"fused": 1}))
    with pytest.raises(AttributeError, match="no field fused"):
        finish(made, x, y)


def test_too_many_weights_are_refused_before_they_are_packed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "LARGEST", 100)
    monkeypatch.setattr(flatbuffers.Builder, "Finish", lambda *_, **__: pytest.fail("was packed"))
    with pytest.raises(QCompileError, match="more than a TFLite file can") as error:
        finish(*chain(floats(0, 4, 8)))
    assert error.value.code is Code.SCHEME_UNSUPPORTED


def test_quantization() -> None:
    q = Quantization.of(np.asarray([0.1, 0.2]), np.zeros(()), 3)
    assert (q.scale.dtype, q.zero_point.dtype, q.axis) == (np.float32, np.int64, 3)
    assert q.zero_point.tolist() == [0, 0]
    assert q.same_as(q.along(0))
    assert not q.same_as(None)
    assert not q.same_as(Quantization.of(q.scale, np.ones(())))


def test_a_constant_leaves_the_name_of_a_computed_value_to_it() -> None:
    builder = Builder(["size"])
    indices = [
        builder.tensor("size", (2,), "int32", data=np.asarray([1, 2], np.int32)),
        builder.tensor("size", (1, 2), "int8"),
    ]
    assert [builder.tensors[i].name for i in indices] == ["size_1", "size"]
