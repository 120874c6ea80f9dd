"""Dimensions the user fixes, and those a target with static shapes needs fixed."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from tests.compiler.importers.build import parse, run, same, save

TWO_INPUTS = """g (float[batch,3,H,W] x, float[batch,5] z) => (float[batch,K] y, float[batch,5] r)
    { f = Flatten(x) y = Relu(f) r = Neg(z) }"""


def two_inputs() -> onnx.ModelProto:
    return parse(TWO_INPUTS)


def test_named_dimensions_are_fixed_everywhere(tmp_path: Path) -> None:
    path = save(two_inputs(), tmp_path)
    imported = load_onnx(path, {"x": (2, 3, 4, 6)})
    assert [spec.shape for spec in imported.signature.inputs] == [(2, 3, 4, 6), (2, 5)]
    assert [spec.shape for spec in imported.signature.outputs] == [(2, 72), (2, 5)]
    assert imported.notes == ()
    feeds = {"x": np.ones((2, 3, 4, 6), np.float32), "z": np.ones((2, 5), np.float32)}
    assert same(run(path, feeds), run(imported.model, feeds))


def test_nothing_is_fixed_unasked(tmp_path: Path) -> None:
    signature = load_onnx(save(two_inputs(), tmp_path)).signature
    assert signature.inputs[0].shape == ("batch", 3, "H", "W")


def test_a_dimension_of_minus_one_is_open(tmp_path: Path) -> None:
    proto = parse("g (float[N,3] x) => (float[N,3] y) { y = Relu(x) }")
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    path = save(proto, tmp_path)
    assert load_onnx(path).signature.inputs[0].shape == (None, 3)
    assert load_onnx(path, {"x": (4, 3)}).signature.outputs[0].shape == (4, 3)
    assert load_onnx(path, static=True).signature.inputs[0].shape == (1, 3)


def test_dimensions_called_by_a_question_mark_need_not_be_equal(tmp_path: Path) -> None:
    path = save(parse("g (float[1,A,B] x) => (float[1,A,B] y) { y = Relu(x) }"), tmp_path)
    proto = onnx.load(path)
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim[1:]:
            dim.dim_param = "?"
    onnx.save(proto, path)
    assert load_onnx(path).signature.inputs[0].shape == (1, None, None)
    assert load_onnx(path, {"x": (1, 4, 6)}).signature.outputs[0].shape == (1, 4, 6)


def test_batch_is_fixed_to_one_and_said(tmp_path: Path) -> None:
    proto = parse("g (float[N,3] x, float[M,3] z) => (float[N,3] y) { a = Relu(x) y = Add(a, z) }")
    imported = load_onnx(save(proto, tmp_path), static=True)
    assert [spec.shape for spec in imported.signature.inputs] == [(1, 3), (1, 3)]
    assert [note.message for note in imported.notes] == [
        "the target needs static shapes: batch of x, z fixed to 1"
    ]


def test_batch_by_name_where_it_is_not_first(tmp_path: Path) -> None:
    proto = parse(
        "g (float[batch,3] x, float[2,batch,3] s) => (float[2,batch,3] y) { y = Add(x, s) }"
    )
    imported = load_onnx(save(proto, tmp_path), static=True)
    assert imported.signature.inputs[1].shape == (2, 1, 3)


def test_static_with_a_shape_given(tmp_path: Path) -> None:
    imported = load_onnx(save(two_inputs(), tmp_path), {"x": (4, 3, 8, 8)}, static=True)
    assert imported.signature.inputs[1].shape == (4, 5)
    assert imported.notes == ()


def test_static_names_all_that_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(two_inputs(), tmp_path), static=True)
    assert caught.value.code is Code.SHAPE_NOT_STATIC
    assert "x dimension 2 (H), x dimension 3 (W)" in caught.value.message
    assert "batch" not in caught.value.message
    assert "--shape x=" in str(caught.value.hint)


def test_input_without_a_shape(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    path = save(proto, tmp_path)
    with pytest.raises(QCompileError, match="no shape at all") as caught:
        load_onnx(path, static=True)
    assert caught.value.code is Code.SHAPE_NOT_STATIC
    assert load_onnx(path, {"x": (2,)}, static=True).signature.inputs[0].shape == (2,)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": (2, 4, 5, 5)}, "dimension 1 to 3"),
        ({"x": (2, 3, 5)}, "4 dimensions"),
        ({"x": (2, 3, 5, 5), "z": (3, 5)}, "batch is 2 elsewhere"),
    ],
)
def test_contradiction(shapes: dict[str, tuple[int, ...]], words: str, tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match=words) as caught:
        load_onnx(save(two_inputs(), tmp_path), shapes)
    assert caught.value.code is Code.SHAPE_CONFLICT


@pytest.mark.parametrize("sizes", [(0, 3, 5, 5), (-1, 3, 5, 5), ()])
def test_sizes_that_cannot_be(sizes: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(two_inputs(), tmp_path), {"x": sizes})
    assert caught.value.code is Code.BAD_OPTION


def test_unknown_input_lists_the_known(tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(two_inputs(), tmp_path), {"image": (1, 3, 5, 5)})
    assert caught.value.code is Code.BAD_OPTION
    assert "x, z" in str(caught.value.hint)


def test_scalar_input(tmp_path: Path) -> None:
    proto = parse("g (float[N] x, float s) => (float[N] y) { y = Mul(x, s) }")
    imported = load_onnx(save(proto, tmp_path), {"s": ()}, static=True)
    assert [spec.shape for spec in imported.signature.inputs] == [(1,), ()]
