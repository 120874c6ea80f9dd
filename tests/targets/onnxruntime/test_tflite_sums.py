"""Additions of a TFLite model round next to a tie as its own runtime does."""

from itertools import product

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.lower import lower
from qcompile.targets.onnxruntime.tflite_sums import (
    Sum,
    TfliteSums,
    float_sums,
    nearest_like_xnnpack,
    xnnpack_sums,
)
from qcompile.targets.tflite.qdq import ORIGIN_KEY

A, B = (x.reshape(-1) for x in np.meshgrid(np.arange(256), np.arange(256), indexing="ij"))
KNOWN = Sum((np.float32(1.012368), np.float32(0.90592015), np.float32(1.0)), (128, 128, 128))
"""Of MobileNet v2: ten steps of a less four of b lie 1e-6 off a tie."""


def drawn(count: int) -> list[Sum]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(count):
        c = rng.uniform(0.01, 0.2)
        a, b = c * rng.uniform(0.3, 1.2, 2)
        zeros = tuple(int(z) for z in rng.integers(0, 256, 3))
        found.append(Sum((np.float32(a), np.float32(b), np.float32(c)), zeros))  # type: ignore[arg-type]
    return found


def by_kernel(given: Sum, first: np.float32, second: np.float32) -> np.ndarray:
    names = ("a", "b", "c")
    constants = [
        numpy_helper.from_array(np.array(value, kind), f"{mark}{name}")
        for mark, kind, values in (
            ("s", np.float32, (first, second, given.scales[2])),
            ("z", np.uint8, given.zeros),
        )
        for name, value in zip(names, values, strict=True)
    ]
    inputs = [part for n in names for part in (n, f"s{n}", f"z{n}")]
    node = helper.make_node("QLinearAdd", [*inputs[:6], *inputs[7:]], ["c"], domain="com.microsoft")
    ends = {n: helper.make_tensor_value_info(n, 2, None) for n in names}
    graph = helper.make_graph([node], "g", [ends["a"], ends["b"]], [ends["c"]], constants)
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = ort.InferenceSession(model.SerializeToString())
    found: np.ndarray = session.run(None, {"a": A.astype(np.uint8), "b": B.astype(np.uint8)})[0]
    return found.astype(int)


@pytest.mark.parametrize("given", [KNOWN, *drawn(5)])
def test_the_model_of_the_kernel_is_exact(given: Sum) -> None:
    """Of the one with fused multiply-adds, where this machine has them."""
    got = by_kernel(given, *given.scales[:2])
    fits = [
        np.array_equal(got, np.clip(float_sums(given, A, B, *given.scales[:2], fused=f), 0, 255))
        for f in (False, True)
    ]
    assert any(fits)


def test_a_near_tie_of_small_integers_falls_as_xnnpacks() -> None:
    a, b = np.array([118, 98]), np.array([132, 140])
    wanted = xnnpack_sums(KNOWN, a, b)
    first, second = nearest_like_xnnpack(KNOWN)
    for fused, (scales, same) in product(
        (False, True), ((KNOWN.scales[:2], False), ((first, second), True))
    ):
        got = float_sums(KNOWN, a, b, *scales, fused=fused)
        assert np.array_equal(got, wanted) == same


def test_fewer_pairs_part_than_before() -> None:
    before = after = 0
    for given in (KNOWN, *drawn(20)):
        wanted = np.clip(xnnpack_sums(given, A, B), 0, 255)
        before += np.count_nonzero(by_kernel(given, *given.scales[:2]) != wanted)
        moved = nearest_like_xnnpack(given)
        assert np.allclose(moved, given.scales[:2], rtol=2.0**-17, atol=0)
        after += np.count_nonzero(by_kernel(given, *moved) != wanted)
    assert before > 20
    assert after * 4 < before


def graph(scale: float, origin: str) -> ir.Model:
    text = f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[4] x, float[4] y) => (float[4] z)
        <float s = {{{scale}}}, float t = {{0.90592015}}, float u = {{1.0}}, uint8 m = {{128}}> {{
            a = QuantizeLinear(x, s, m) ad = DequantizeLinear(a, s, m)
            b = QuantizeLinear(y, t, m) bd = DequantizeLinear(b, t, m)
            c = Add(ad, bd)
            cq = QuantizeLinear(c, u, m) z = DequantizeLinear(cq, u, m)
        }}"""
    model = ir.from_proto(onnx.parser.parse_model(text))
    for number, node in enumerate(model.graph):
        node.name = f"n{number}"
        if node.op_type == "Add" and origin:
            node.metadata_props[ORIGIN_KEY] = origin
    return model


def test_an_add_reads_scales_of_its_own_and_nothing_changes_twice() -> None:
    model = graph(1.012368, "ADD")
    assert TfliteSums()(model).modified
    (add,) = (n for n in model.graph if n.op_type == "Add")
    scales = [v.producer().inputs[1].const_value.numpy() for v in add.inputs]  # type: ignore[union-attr]
    assert tuple(scales) == nearest_like_xnnpack(KNOWN)
    quantizers = [n for n in model.graph if n.op_type == "QuantizeLinear"]
    assert quantizers[0].inputs[1].const_value.numpy() == np.float32(1.012368)  # type: ignore[union-attr]
    assert not TfliteSums()(model).modified
    ort.InferenceSession(ir.to_proto(model).SerializeToString())


@pytest.mark.parametrize(("target", "own"), [("ort-arm64", True), ("ort-qnn-htp", False)])
def test_only_where_the_kernel_is_onnx_runtimes(target: str, own: bool) -> None:
    made = onnx.load_from_string(lower(graph(1.012368, "ADD"), load_target(target)))
    quantizers = [n for n in made.graph.node if n.op_type == "QuantizeLinear"]
    constants = {t.name: numpy_helper.to_array(t) for t in made.graph.initializer}
    (add,) = (n for n in made.graph.node if n.op_type == "Add")
    makers = {n.output[0]: n for n in made.graph.node}
    read = [float(constants[makers[name].input[1]]) for name in add.input]
    assert (read != [float(constants[n.input[1]]) for n in quantizers[:2]]) == own


@pytest.mark.parametrize("origin", ["", "SUB"])
def test_what_no_tflite_file_added_is_left_alone(origin: str) -> None:
    assert not TfliteSums()(graph(1.012368, origin)).modified


def test_an_add_without_quantizers_is_left_alone() -> None:
    model = ir.from_proto(
        onnx.parser.parse_model(
            """<ir_version: 10, opset_import: ["" : 21]>
            g (float[4] x, float[4] y) => (float[4] z) { z = Add(x, y) }"""
        )
    )
    next(iter(model.graph)).metadata_props[ORIGIN_KEY] = "ADD"
    assert not TfliteSums()(model).modified
