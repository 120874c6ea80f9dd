"""Single operators in the forms that one sample each of the table does not show."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.tflite import convert_tflite
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Builder, Options
from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.reader.read import read_model
from qcompile.targets.tflite.reading import read_graph
from tests.targets.tflite import sound as m
from tests.targets.tflite.lowering import TARGET
from tests.targets.tflite.reader.nets import CONV, finish, noise
from tests.targets.tflite.reader.reading import both, proto_of
from tests.targets.tflite.sound import changed, q, sound

MASKS: list[tuple[dict[str, int], list[list[int]], tuple[int, ...]]] = [
    ({"shrinkAxisMask": 2}, [[0, 1, 0], [2, 2, 3], [1, 1, 1]], (2, 3)),
    ({"beginMask": 7, "endMask": 7}, [[1, 1, 1], [1, 1, 1], [1, 2, -1]], (2, 2, 3)),
    ({"newAxisMask": 2}, [[0, 0, 1], [2, 1, 3], [1, 1, 1]], (2, 1, 2, 3)),
    ({"ellipsisMask": 1, "shrinkAxisMask": 2}, [[0, -1], [0, 0], [1, 1]], (2, 4)),
    ({"ellipsisMask": 2, "newAxisMask": 4}, [[1, 0, 0], [2, 0, 0], [1, 1, 1]], (1, 4, 3, 1)),
    ({"endMask": 1}, [[-1, 3, 0], [0, 0, 3], [-1, -1, 2]], (2, 3, 2)),
]


@pytest.mark.parametrize(("masks", "lists", "shape"), MASKS)
def test_strided_slice_with_masks(
    masks: dict[str, int], lists: list[list[int]], shape: tuple[int, ...]
) -> None:
    b = Builder()
    x = b.tensor("x", (2, 4, 3), "float32")
    bounds = [
        b.tensor(name, (len(v),), "int32", None, np.array(v, np.int32))
        for name, v in zip(("begin", "end", "step"), lists, strict=True)
    ]
    y = b.tensor("y", shape, "float32")
    b.operator("STRIDED_SLICE", [x, *bounds], [y], Options("StridedSliceOptions", masks))
    assert both(finish(b, [x], [y])).largest == 0


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize(("size", "kernel", "stride"), [((5, 8), 3, 2), ((7, 6), 2, 3)])
def test_windows_of_convolutions(
    padding: int, size: tuple[int, int], kernel: int, stride: int
) -> None:
    b = Builder()
    reach = [(n if padding == 0 else n - kernel + 1) for n in size]
    out = tuple(-(-n // stride) for n in reach)
    x = b.tensor("x", (1, *size, 4), "float32")
    w = b.tensor("w", (6, kernel, kernel, 2), "float32", None, noise(6, kernel, kernel, 2))
    bias = b.tensor("b", (6,), "float32", None, noise(6))
    y = b.tensor("y", (1, *out, 6), "float32")
    fields = {**CONV, "padding": padding, "strideH": stride, "strideW": stride}
    b.operator("CONV_2D", [x, w, bias], [y], Options("Conv2DOptions", fields))
    assert both(finish(b, [x], [y])).largest <= 1e-5


@pytest.mark.parametrize(("padding", "out"), [(0, 8), (0, 7), (1, 9), (1, 10), (0, 6)])
def test_windows_of_transposed_convolutions(padding: int, out: int) -> None:
    b = Builder()
    size = -(-out // 2) if padding == 0 else 4
    x = b.tensor("x", (1, size, size, 3), "float32")
    shape = b.tensor("s", (4,), "int32", None, np.array([1, out, out, 2], np.int32))
    w = b.tensor("w", (2, 3, 3, 3), "float32", None, noise(2, 3, 3, 3))
    bias = b.tensor("b", (2,), "float32", None, noise(2))
    y = b.tensor("y", (1, out, out, 2), "float32")
    fields = {"padding": padding, "strideH": 2, "strideW": 2}
    options = Options("TransposeConvOptions", fields)
    b.operator("TRANSPOSE_CONV", [shape, w, x, bias], [y], options, version=3)
    assert both(finish(b, [x], [y])).largest <= 1e-5


def test_dilation_by_space_to_batch_and_back() -> None:
    b = Builder()
    x = b.tensor("x", (1, 5, 6, 2), "float32")
    block = b.tensor("block", (2,), "int32", None, np.array([2, 2], np.int32))
    pads = b.tensor("pads", (2, 2), "int32", None, np.array([[2, 3], [2, 2]], np.int32))
    split = b.tensor("split", (4, 5, 5, 2), "float32")
    b.operator("SPACE_TO_BATCH_ND", [x, block, pads], [split], version=1)
    crops = b.tensor("crops", (2, 2), "int32", None, np.array([[1, 2], [0, 1]], np.int32))
    y = b.tensor("y", (1, 7, 9, 2), "float32")
    b.operator("BATCH_TO_SPACE_ND", [split, block, crops], [y], version=1)
    assert both(finish(b, [x], [y])).largest == 0


def test_activations_that_operators_do_as_well() -> None:
    for number, kind in ((1, "Relu"), (2, "Clip"), (3, "Clip"), (4, "Tanh")):
        b = Builder()
        x, y = b.tensor("x", (1, 4), "float32"), b.tensor("y", (1, 4), "float32")
        c = b.tensor("c", (4,), "float32", None, noise(4))
        b.operator("ADD", [x, c], [y], Options("AddOptions", {"fusedActivationFunction": number}))
        data = finish(b, [x], [y])
        assert [n.op_type for n in proto_of(data).graph.node] == ["Add", kind]
        if number != 4:  # the runtime has the number and no kernel
            assert both(data).largest <= 1e-6


def test_softmax_with_a_factor() -> None:
    b = Builder()
    x, y = b.tensor("x", (2, 4), "float32"), b.tensor("y", (2, 4), "float32")
    b.operator("SOFTMAX", [x], [y], Options("SoftmaxOptions", {"beta": 0.5}))
    assert both(finish(b, [x], [y])).largest <= 1e-6


def test_gather_in_samples() -> None:
    b = Builder()
    x = b.tensor("x", (2, 5, 3), "float32")
    at = b.tensor("at", (2, 2), "int32", None, np.array([[0, 4], [3, 1]], np.int32))
    y = b.tensor("y", (2, 2, 3), "float32")
    b.operator("GATHER", [x, at], [y], Options("GatherOptions", {"axis": 1, "batchDims": 1}))
    assert both(finish(b, [x], [y])).largest == 0


REFUSED: list[tuple[str, Callable[[Any], None], str]] = [
    ("an axis that is none", lambda model: _option(model, m.CONCAT_OP, "axis", 7), "no axis"),
    ("an activation", lambda model: _option(model, m.CONV_OP, "fusedActivationFunction", 9), "9"),
    ("a padding", lambda model: _option(model, m.CONV_OP, "padding", 5), "padding 5"),
    ("a stride of 0", lambda model: _option(model, m.CONV_OP, "strideH", 0), "CONV_2D"),
]


def _option(model: Any, op: int, name: str, value: int) -> None:
    setattr(model.subgraphs[0].operators[op].builtinOptions, name, value)


@pytest.mark.parametrize(("change", "told"), [row[1:] for row in REFUSED], ids=lambda v: str(v)[:9])
def test_options_that_no_kernel_knows_are_named(change: Callable[[Any], None], told: str) -> None:
    with pytest.raises(QCompileError, match=told) as caught:
        read_model(changed(sound(), change))
    assert caught.value.code is Code.MODEL_INVALID and caught.value.node


def test_an_average_pool_of_a_quantized_file_is_written_as_one_again(tmp_path: Path) -> None:
    """Of floats it becomes MEAN, which is faster; MEAN of integers rounds otherwise."""
    for kind, operator in (("int8", "AVERAGE_POOL_2D"), ("float32", "MEAN")):
        params = q(0.05, 3) if kind == "int8" else None
        b = Builder()
        x = b.tensor("x", (1, 6, 5, 4), kind, params)
        y = b.tensor("y", (1, 1, 1, 4), kind, params)
        fields = {"padding": 1, "strideH": 1, "strideW": 1, "filterHeight": 6, "filterWidth": 5}
        b.operator("AVERAGE_POOL_2D", [x], [y], Options("Pool2DOptions", fields))
        path = tmp_path / "pool.tflite"
        path.write_bytes(finish(b, [x], [y]))
        made = convert_tflite(str(path), tmp_path, ImportOptions())
        model = load_onnx(made.onnx, static=True, allow_integer=True).model
        assert [op.name for op in read_graph(lower(model, TARGET)).operators] == [operator]
