"""Each way in which a file can lie about itself is a coded error that says which tensor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reader.check import check_graph
from qcompile.targets.tflite.reading import read_graph
from tests.targets.tflite import sound as m
from tests.targets.tflite.sound import changed, sound


def tensor(model: Any, index: int) -> Any:
    return model.subgraphs[0].tensors[index]


def operator(model: Any, index: int) -> Any:
    return model.subgraphs[0].operators[index]


def shaped(index: int, *shape: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        tensor(model, index).shape = np.array(shape, np.int32)

    return change


def reads(op: int, *inputs: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        operator(model, op).inputs = np.array(inputs, np.int32)

    return change


def writes(op: int, *outputs: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        operator(model, op).outputs = np.array(outputs, np.int32)

    return change


def scaled(index: int, **fields: Any) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(tensor(model, index).quantization, name, value)

    return change


def ends(**fields: list[int]) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        for name, value in fields.items():
            setattr(model.subgraphs[0], name, np.array(value, np.int32))

    return change


def versioned(model: Any) -> None:
    model.version = 7


def sparse(model: Any) -> None:
    from qcompile.targets.tflite.schema import schema

    tensor(model, m.CONV_WEIGHT).sparsity = schema().SparsityParametersT()


CASES: list[tuple[Callable[[Any], None], Code, str]] = [
    (versioned, Code.MODEL_INVALID, "version 7"),
    (ends(inputs=[0, 99]), Code.MODEL_INVALID, "input of it is tensor 99"),
    (ends(inputs=[0, 0]), Code.MODEL_INVALID, "two of its inputs"),
    (ends(outputs=[-1]), Code.MODEL_INVALID, "output of it is tensor -1"),
    (ends(outputs=[]), Code.MODEL_INVALID, "no output"),
    (shaped(m.CONV, 1, -2, 2, 4), Code.MODEL_INVALID, "shape"),
    (shaped(m.CONV, 65536, 65536, 2, 4), Code.MODEL_INVALID, "elements"),
    (shaped(m.CONV_WEIGHT, 4, 3, 3, 3), Code.MODEL_INVALID, "72 bytes"),
    (reads(m.ADD_OP, 3, 77), Code.MODEL_INVALID, "reads tensor 77"),
    (reads(m.ADD_OP, 3, -5), Code.MODEL_INVALID, "reads tensor -5"),
    (reads(m.ADD_OP, 3, 11), Code.MODEL_CYCLIC, "later operator"),
    (reads(m.ADD_OP, 3, 5), Code.MODEL_CYCLIC, "itself"),
    (writes(m.ADD_OP, 99), Code.MODEL_INVALID, "writes tensor 99"),
    (writes(m.ADD_OP, m.CONV_WEIGHT), Code.MODEL_INVALID, "there already"),
    (writes(m.ADD_OP, m.CONV), Code.MODEL_INVALID, "there already"),
    (writes(m.ADD_OP), Code.MODEL_INVALID, "no output"),
    (ends(inputs=[0]), Code.MODEL_INVALID, "nothing makes"),
    (scaled(m.X, scale=np.array([np.nan], np.float32)), Code.MODEL_INVALID, "positive"),
    (scaled(m.X, scale=np.array([-1], np.float32)), Code.MODEL_INVALID, "positive"),
    (scaled(m.X, zeroPoint=np.array([300], np.int64)), Code.MODEL_INVALID, "outside its type"),
    (scaled(m.CONV_WEIGHT, quantizedDimension=1), Code.MODEL_INVALID, "along axis 1"),
    (scaled(m.CONV_WEIGHT, quantizedDimension=9), Code.MODEL_INVALID, "along axis 9"),
    (scaled(m.CONV_WEIGHT, zeroPoint=np.zeros(3, np.int64)), Code.MODEL_INVALID, "3 zero points"),
    (sparse, Code.IMPORT_FAILED, "without its zeros"),
]


def test_a_sound_file_passes() -> None:
    check_graph(read_graph(sound()))


@pytest.mark.parametrize(("change", "code", "told"), CASES, ids=[c[2] for c in CASES])
def test_what_a_file_says_of_itself_must_hold(
    change: Callable[[Any], None], code: Code, told: str
) -> None:
    with pytest.raises(QCompileError, match=told) as caught:
        check_graph(read_graph(changed(sound(), change)))
    assert caught.value.code is code
