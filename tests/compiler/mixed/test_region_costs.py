"""The kinds of layers in tables of costs."""

import onnx.parser
import onnx_ir as ir
import pytest

from qcompile.compiler.mixed.groups import Group
from qcompile.compiler.mixed.region_costs import kind_of, work_of

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'


def node(text: str) -> ir.Node:
    """The last node of a graph."""
    model = ir.from_proto(onnx.shape_inference.infer_shapes(onnx.parser.parse_model(HEAD + text)))
    return list(model.graph)[-1]


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "kind"),
    [
        (1, 4, 4, "gemv"),
        (1, 4, 7, "gemv"),
        (1, 4, 8, "gemv-widening"),
        (1, 8, 4, "gemv-narrowing"),
        (1, 7, 4, "gemv"),
        (2, 4, 8, "gemm"),
    ],
)
def test_products_by_their_form(rows: int, inputs: int, outputs: int, kind: str) -> None:
    ends = f"g (float[{rows}, {inputs}] x) => (float[{rows}, {outputs}] y)"
    numbers = ", ".join(["1"] * inputs * outputs)
    gemm = f"{ends} <float[{outputs}, {inputs}] w = {{{numbers}}}> {{ y = Gemm <transB=1> (x, w) }}"
    assert kind_of(node(gemm)) == kind
    matmul = f"{ends} <float[{inputs}, {outputs}] w = {{{numbers}}}> {{ y = MatMul (x, w) }}"
    assert kind_of(node(matmul)) == kind


def test_two_computed_operands() -> None:
    text = "g (float[2, 3] x, float[3, 2] w) => (float[2, 2] y) { y = MatMul (x, w) }"
    assert kind_of(node(text)) == "matmul"


@pytest.mark.parametrize(
    ("shape", "group", "kind"),
    [
        ("64, 4, 3, 3", 1, "conv"),
        ("28, 4, 3, 3", 1, "conv-thin"),
        ("257, 4, 1, 1", 1, "pointwise"),
        ("256, 4, 1, 1", 1, "pointwise-thin"),
        ("4, 1, 3, 3", 4, "depthwise"),
        ("4, 2, 3, 3", 2, "grouped"),
    ],
)
def test_convolutions(shape: str, group: int, kind: str) -> None:
    text = (
        f"g (float[1, 4, 5, 5] x, float[{shape}] w) => (float[1, C, N, M] y) "
        f"{{ y = Conv <group = {group}> (x, w) }}"
    )
    assert kind_of(node(text)) == kind


def test_the_work_of_a_pool_is_what_it_sums() -> None:
    text = (
        "g (float[1, 2, 6, 6] x) => (float[1, 2, 2, 2] y) "
        "{ y = AveragePool <kernel_shape = [3, 3], strides = [3, 3]> (x) }"
    )
    pool = node(text)
    assert work_of(pool, Group("", "", (), 0, 0, "")) == 2 * 2 * 2 * 9


def test_all_else_is_called_as_its_operator_is() -> None:
    assert kind_of(node("g (float[2] x) => (float[2] y) { y = Sigmoid (x) }")) == "sigmoid"
