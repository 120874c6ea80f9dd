"""Constants as nodes and initializers as inputs both end as plain initializers."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import constant
from tests.compiler.importers.build import parse, random_feeds, run, same, save

FORMS = {
    "value: tensor = float[2] {1.5, 2.0}": np.asarray([1.5, 2], np.float32),
    "value_float: float = 1.5": np.asarray(1.5, np.float32),
    "value_floats: floats = [1.5, 2.0]": np.asarray([1.5, 2], np.float32),
}


@pytest.mark.parametrize("form", FORMS)
def test_constant_node_becomes_an_initializer(form: str, tmp_path: Path) -> None:
    proto = parse(f"g (float[2] x) => (float[2] y) {{ c = Constant<{form}>() y = Add(x, c) }}")
    graph = load_onnx(save(proto, tmp_path)).model.graph
    assert [node.op_type for node in graph] == ["Add"]
    array = constant(graph.initializers["c"])
    assert array is not None
    assert array.dtype == np.float32
    assert np.array_equal(array, FORMS[form])


def test_integer_forms(tmp_path: Path) -> None:
    proto = parse(
        """g (float[4] x) => (float[2,2] y) { s = Constant<value_ints: ints = [2, -1]>()
        y = Reshape(x, s) }"""
    )
    array = constant(load_onnx(save(proto, tmp_path)).model.graph.initializers["s"])
    assert array is not None
    assert array.dtype == np.int64
    assert array.tolist() == [2, -1]


def test_constant_without_a_value(tmp_path: Path) -> None:
    proto = parse("g (float[2] x) => (float[2] y) { [c] c = Constant() y = Add(x, c) }")
    with pytest.raises(QCompileError) as caught:
        load_onnx(save(proto, tmp_path))
    assert (caught.value.code, caught.value.node) == (Code.MODEL_INVALID, "c")


def test_constant_that_is_an_output_stays(tmp_path: Path) -> None:
    proto = parse(
        """g (float[2] x) => (float[2] y, float c) { c = Constant<value_float=1.0>()
        y = Add(x, c) }"""
    )
    model = load_onnx(save(proto, tmp_path)).model
    assert [node.op_type for node in model.graph] == ["Constant", "Add"]
    assert same(run(proto, random_feeds(proto)), run(model, random_feeds(proto)))


def test_constant_of_half_floats_and_strings(tmp_path: Path) -> None:
    proto = parse("g (float16[2] x) => (float16[2] y) { y = Add(x, h) }".replace("{ y", "{ y"))
    half = np.asarray([1.5, -0.1], np.float16)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(half, "h"))
    array = constant(load_onnx(save(proto, tmp_path)).model.graph.initializers["h"])
    assert array is not None
    assert array.dtype == np.float16
    assert np.array_equal(array, half)


def with_default(ir_version: int, *, both: bool) -> onnx.ModelProto:
    proto = parse(
        """g (float[2] x, float[2] w) => (float[2] y)
        <float[2] w = {1, 2}, float[2] v = {3, 4}> { a = Mul(x, w) y = Add(a, v) }""",
        opset=9,
    )
    proto.ir_version = ir_version
    if both:
        proto.graph.input.add().CopyFrom(proto.graph.input[1])
        proto.graph.input[2].name = "v"
    return proto


def test_weights_listed_as_inputs_are_weights(tmp_path: Path) -> None:
    proto = with_default(3, both=True)
    imported = load_onnx(save(proto, tmp_path))
    assert [spec.name for spec in imported.signature.inputs] == ["x"]
    assert [value.name for value in imported.model.graph.inputs] == ["x"]
    assert set(imported.model.graph.initializers) == {"w", "v"}
    assert len(imported.notes) == 1  # the opset only
    x = {"x": np.asarray([1, 2], np.float32)}
    assert same(run(proto, x), run(imported.model, x))


def test_a_default_on_purpose_is_fixed_and_said(tmp_path: Path) -> None:
    imported = load_onnx(save(with_default(8, both=False), tmp_path))
    assert [value.name for value in imported.model.graph.inputs] == ["x"]
    assert any("default value are fixed to it: w" in note.message for note in imported.notes)
