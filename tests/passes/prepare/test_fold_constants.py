"""What is known before the model runs is computed; nothing that would grow the file."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.prepare.fold_constants import FoldConstants
from tests.passes.prepare.checking import changed, inits, ops, parse, rand, unchanged

PASS = FoldConstants()
CONSTANTS = {
    "a": rand(2, 3), "b": np.abs(rand(3)) + 1, "s": np.float32(2), "i": np.array([-7, 7, 8]),
    "j": np.array([2, -2, 3]), "n": np.array(3), "m": np.array(1), "to": np.array([0, -1]),
    "ax": np.array([1]), "last": np.array([-1]), "far": np.array([-9]), "one": np.array([1]),
    "nine": np.array([9]), "big": np.array([2, 2, 3]), "mask": np.array([True, False, True]),
    "swap": np.array([[1, 0]]), "first": np.array([0]),
}  # fmt: skip


def build(expression: str, op: str, kind: str):
    """A model whose only output is ``op`` of the expression."""
    return parse(f"g () => ({kind}[] y) {{ c = {expression} y = {op}(c) }}", CONSTANTS)


@pytest.mark.parametrize(
    ("kind", "op", "expressions"),
    [
        (
            "float",
            "Relu",
            "Add(a, b); Sub(a, b); Mul(a, b); Div(a, b); Pow(b, s); Neg(a); Sqrt(b); Reciprocal(b);"
            "Transpose(a); Transpose<perm = [1, 0]>(a); Reshape(a, to); Flatten<axis = 0>(a);"
            "Flatten<axis = -1>(a); Unsqueeze(a, ax); Gather<axis = 1>(a, swap); Gather(a, last);"
            "Slice(a, last, far, ax, last); Slice(a, one, nine); Concat<axis = -1>(a, a);"
            "Expand(a, big); Where(mask, a, b); Identity(a); Cast<to = 1>(i); ConstantOfShape(big)",
        ),
        (
            "int64",
            "Abs",
            "Add(i, j); Div(i, j); Mul(i, j); Range(m, n, m); Squeeze(one); Squeeze(one, first);"
            "Cast<to = 7>(a); Shape(a); Shape<start = -1>(a)",
        ),
        ("bool", "Not", "Equal(i, j); Less(i, j); Greater(i, j); And(mask, mask); Or(mask, mask)"),
    ],
)
def test_operators(kind, op, expressions):
    for expression in expressions.split(";"):
        model = build(expression, op, kind)
        changed(PASS, model, tolerance=1e-7)
        assert ops(model) == [op], expression
        assert "c" in inits(model), expression


def test_a_chain_and_a_value_read_twice():
    model = parse(
        """g (float[N, 3] x) => (float[N, 3] y, float[N, 3] z) {
          c = Neg(b)
          d = Sqrt(b)
          e = Add(c, d)
          y = Add(x, e)
          z = Mul(x, e)
        }""",
        CONSTANTS,
    )
    changed(PASS, model)
    assert ops(model) == ["Add", "Mul"]
    assert model.graph[0].inputs[1].name == "e"


@pytest.mark.parametrize(
    "target",
    [
        "t = Shape<start = 1>(x)",
        "p = Shape(x) t = Slice(p, one, nine)",
        "p = Shape(x) g1 = Gather(p, one) u = Squeeze(g1) v = Unsqueeze(u, first) "
        "w = Shape<start = 2, end = 3>(x) t = Concat<axis = 0>(v, w)",
    ],
)
def test_static_elements_of_a_shape_that_is_static_in_part(target):
    model = parse(
        f"""g (float[N, 4, 5] x, float[20] r) => (float[4, 5] y) {{
          {target}
          y = Reshape(r, t)
        }}""",
        CONSTANTS,
    )
    changed(PASS, model)
    assert ops(model) == ["Reshape"]
    assert inits(model)["t"].tolist() == [4, 5]


def test_unknown_elements_of_a_shape_are_left():
    model = parse(
        """g (float[N, 4] x, float[M] r) => (float[A, B] y) {
          t = Shape(x)
          y = Reshape(r, t)
        }"""
    )
    unchanged(PASS, model)


@pytest.mark.parametrize(
    ("q", "scale", "zero", "axis"),
    [
        (np.int8, np.float32(0.1), np.int8(0), None),
        (np.uint8, np.float32(0.1), np.uint8(128), None),
        (np.int8, np.array([0.1, 0.25], np.float32), np.array([0, 3], np.int8), 0),
        (np.int32, np.array([0.1, 0.25, 1.5], np.float32), None, 1),
    ],
)
def test_dequantized_weight_remembers_its_grid(q, scale, zero, axis):
    integers = np.arange(6).reshape(2, 3).astype(q)
    args = "q, s" if zero is None else "q, s, z"
    attribute = "" if axis is None else f"<axis = {axis}>"
    model = parse(
        f"g (float[2, 3] x) => (float[2, 3] y) {{ w = DequantizeLinear{attribute}({args}) "
        "y = Add(x, w) }",
        {"q": integers, "s": scale, **({} if zero is None else {"z": zero})},
    )
    changed(PASS, model, tolerance=0)
    props = model.graph.initializers["w"].metadata_props
    read = [np.float32(n) for n in props["qcompile.grid_scale"].split(",")]
    assert np.array_equal(read, scale.reshape(-1))
    zeros = [int(n) for n in props["qcompile.grid_zero_point"].split(",")]
    assert zeros == ([0] * scale.size if zero is None else zero.reshape(-1).tolist())
    assert props["qcompile.grid_type"] == np.dtype(q).name.upper()
    assert props.get("qcompile.grid_axis") == (None if axis is None else str(axis))


def test_the_grid_of_a_tensor_survives_a_transpose():
    model = parse(
        """g (float[N, 2] x) => (float[N, 3] y) {
          w = DequantizeLinear(q, s)
          t = Transpose(w)
          u = Transpose(t)
          y = MatMul(x, u)
        }""",
        {"q": np.arange(6).reshape(2, 3).astype(np.int8), "s": np.float32(0.1)},
    )
    changed(PASS, model)
    assert "qcompile.grid_scale" in model.graph.initializers["u"].metadata_props


def test_weights_of_quantized_models_are_folded_and_activations_not():
    model = parse(
        """g (float[2, 3] x) => (float[2, 3] y) {
          w = DequantizeLinear(q, s)
          a = QuantizeLinear(x, s)
          b = DequantizeLinear(a, s)
          y = Add(b, w)
        }""",
        {"q": np.arange(6).reshape(2, 3).astype(np.int8), "s": np.float32(0.1)},
    )
    changed(PASS, model, tolerance=0)
    assert ops(model) == ["QuantizeLinear", "DequantizeLinear", "Add"]


def test_weights_that_a_tool_left_in_front_of_their_quantizer_lie_on_its_grid():
    model = parse(
        """g (float[N, 2] x) => (float[N, 3] y) {
          q = QuantizeLinear<axis = 1>(w, s, z)
          d = DequantizeLinear<axis = 1>(q, s, z)
          t = Transpose(d)
          u = Transpose(t)
          y = MatMul(x, u)
        }""",
        {
            "w": np.array([[0.1, 0.26, -9], [-0.3, 0.55, 9]], np.float32),
            "s": np.array([0.1, 0.25, 0.5], np.float32),
            "z": np.zeros(3, np.int8),
        },
    )
    changed(PASS, model, tolerance=0)
    weight = model.graph.initializers["u"]
    assert weight.metadata_props["qcompile.grid_axis"] == "1"
    expected = np.array([[0.1, 0.25, -9], [-0.3, 0.5, 9]], np.float32)
    assert np.abs(weight.const_value.numpy() - expected).max() < 1e-6


def test_a_bias_is_dequantized_without_rounding_its_integers_first():
    model = parse(
        "g (float[N, 1] x) => (float[N, 1] y) { b = DequantizeLinear(q, s) y = Add(x, b) }",
        {"q": np.array([2**24 + 1], np.int32), "s": np.float32(0.75)},
    )
    assert PASS(model).modified
    found = model.graph.initializers["b"].const_value.numpy()
    assert found[0] == np.float32((2**24 + 1) * 0.75)


@pytest.mark.parametrize("shape", ["[400, 400]", "[]"])
def test_what_would_grow_the_file_is_left(shape):
    model = parse(
        f"g (float{shape} x) => (float[400, 400] y) {{ c = ConstantOfShape(t) y = Add(x, c) }}",
        {"t": np.array([400, 400])},
    )
    unchanged(PASS, model)


def test_a_large_result_of_large_inputs_is_folded():
    model = parse(
        "g (float[N, 300] x) => (float[N, 200] y) { t = Transpose(w) y = MatMul(x, t) }",
        {"w": rand(200, 300)},
    )
    assert ops(changed(PASS, model)) == ["MatMul"]


@pytest.mark.parametrize(
    "text",
    [
        "y = Neg(b)",  # a graph output
        "c = Div(i, zeros) d = Cast<to = 1>(c) y = Relu(d)",
        "c = Gather(a, nine) y = Relu(c)",  # out of range
        "c = Cast<to = 7>(nan) d = Cast<to = 1>(c) y = Relu(d)",
    ],
)
def test_left_alone(text):
    more = {"zeros": np.zeros(3, np.int64), "nan": np.float32(np.nan)}
    unchanged(PASS, parse(f"g () => (float[] y) {{ {text} }}", {**CONSTANTS, **more}))


def test_overridable_initializers_are_no_constants():
    model = parse(
        "g (float[N, 3] x, float[3] b) => (float[N, 3] y) { c = Neg(b) y = Add(x, c) }", CONSTANTS
    )
    unchanged(PASS, model)


def test_a_large_transpose_stays_a_view(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qcompile.passes.prepare.fold_constants.LARGE_BYTES", 64)
    body = """g (int64[n] i, float[n, 8] x) => (float[n, 8] e, float[n, 6] y) {
        e = Gather (t, i)
        h = Transpose <perm = [1, 0]> (t)
        y = MatMul (x, h)
    }"""
    model = parse(body, {"t": rand(6, 8)})
    table = model.graph.initializers["t"]
    table.const_value = ir.Tensor(np.array(table.const_value.numpy()))
    FoldConstants()(model)
    head = model.graph.initializers["h"].const_value
    assert np.shares_memory(head.numpy(), table.const_value.numpy())
    assert head.tobytes() == np.ascontiguousarray(table.const_value.numpy().T).tobytes()
    assert ops(model) == ["Gather", "MatMul"]
