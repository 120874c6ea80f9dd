"""A file as plain data: what was written comes back, damage is named."""

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.reading import read_graph
from tests.targets.tflite import sound as m
from tests.targets.tflite.sound import changed, q, sound


def test_what_was_written_comes_back() -> None:
    graph = read_graph(sound())
    assert [op.name for op in graph.operators] == [
        "CONV_2D",
        "ADD",
        "RESHAPE",
        "FULLY_CONNECTED",
        "CONCATENATION",
        "SOFTMAX",
    ]
    assert (graph.inputs, graph.outputs) == ((m.X, m.OTHER), (m.SOFTMAX,))
    assert graph.signatures == {
        "serving_default": ({"x": m.X, "other": m.OTHER}, {"softmax": m.SOFTMAX})
    }
    weight = graph.tensors[m.CONV_WEIGHT]
    assert (weight.dtype, weight.shape, weight.is_constant) == ("int8", (4, 3, 3, 2), True)
    assert weight.array.dtype == np.int8
    assert weight.quantization is not None and weight.quantization.scale.size == 4
    assert graph.tensors[m.SHAPE].array.tolist() == [1, 16]
    assert graph.tensors[m.CONV].raw is None
    assert graph.operators[m.CONV_OP].options["strideH"] == 2
    assert graph.tensor(-1) is None and graph.tensor(99) is None


@pytest.mark.parametrize(
    ("dtype", "bits", "values"), [("int4", 4, [-8, 7, -1, 0, 3]), ("int2", 2, [-2, 1, -1, 0, 1])]
)
def test_small_types_are_unpacked_low_bits_first(dtype: str, bits: int, values: list[int]) -> None:
    packed = sum((v & ((1 << bits) - 1)) << (bits * i) for i, v in enumerate(values))
    raw = np.frombuffer(packed.to_bytes(-(-len(values) * bits // 8), "little"), np.uint8)
    b = Builder()
    x = b.tensor("x", (1, 5), "int8", q(1))
    w = b.tensor("w", (1, 5), dtype, q(0.1), raw)
    y = b.tensor("y", (1, 1), "int8", q(1))
    b.operator("FULLY_CONNECTED", [x, w, -1], [y], Options("FullyConnectedOptions", {}), version=9)
    graph = read_graph(b.finish([x], [y], names=(["x"], ["y"]), description="t"))
    assert graph.tensors[w].array.tolist() == [values]
    assert graph.tensors[w].nbytes == raw.size
    assert graph.operators[0].inputs[2] == -1


def test_metadata_and_custom_operators() -> None:
    b = Builder()
    x = b.tensor("x", (1,), "float32")
    y = b.tensor("y", (1,), "float32")
    b.operator("CUSTOM", [x], [y])
    b.metadata("note", b"hello")

    def name(model: object) -> None:
        model.operatorCodes[0].customCode = b"MyOp"  # type: ignore[attr-defined]

    data = changed(b.finish([x], [y], names=(["x"], ["y"]), description="t"), name)
    graph = read_graph(data)
    assert graph.metadata == {"note": b"hello"}
    assert graph.operators[0].name == "custom:MyOp"


@pytest.mark.parametrize("data", [b"", b"TFL3", b"0000ONNX0000", b"\xff" * 64])
def test_what_is_no_model_is_named(data: bytes) -> None:
    with pytest.raises(QCompileError) as caught:
        read_graph(data)
    assert caught.value.code is Code.MODEL_INVALID
    assert "identifier" in caught.value.message


def test_an_index_that_leads_nowhere_is_named() -> None:
    def buffer(model: object) -> None:
        model.subgraphs[0].tensors[0].buffer = 99  # type: ignore[attr-defined]

    with pytest.raises(QCompileError, match="tensor 0 refers to buffer 99"):
        read_graph(changed(sound(), buffer))

    def code(model: object) -> None:
        model.subgraphs[0].operators[2].opcodeIndex = 99  # type: ignore[attr-defined]

    with pytest.raises(QCompileError, match="operator 2 refers to code 99"):
        read_graph(changed(sound(), code))


def test_quantization_keeps_what_the_file_says() -> None:
    def lopsided(model: object) -> None:
        model.subgraphs[0].tensors[m.SUM].quantization.zeroPoint = np.array([1, 2])  # type: ignore[attr-defined]

    made = read_graph(changed(sound(), lopsided)).tensors[m.SUM].quantization
    assert isinstance(made, Quantization)
    assert (made.scale.size, made.zero_point.size) == (1, 2)
