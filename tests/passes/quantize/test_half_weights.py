"""Weights become float16 behind a Cast; everything else stays as it is."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.quantize.half_weights import HalfWeights
from tests.passes.planning import session
from tests.passes.prepare.checking import parse, rand


def halved(model: ir.Model) -> bool:
    return bool(HalfWeights()(model).modified)


def kinds(model: ir.Model) -> dict[str, str]:
    return {name: value.dtype.name for name, value in model.graph.initializers.items()}


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("y = Conv (x, w, b)", rand(4, 4, 3, 3)),
        ("y = ConvTranspose (x, w, b)", rand(4, 4, 3, 3)),
        ("m = MatMul (x, w) y = Add (m, b)", rand(8, 4)),
        ("f = Flatten (x) y = Gemm <transB = 1> (f, w, b)", rand(4, 256)),
    ],
)
def test_the_weight_of_a_multiply_add_is_rounded_to_float16(body: str, weight: np.ndarray) -> None:
    text = f"g (float[1, 4, 8, 8] x) => (float[] y) {{ {body} }}"
    model = parse(text, {"w": weight, "b": rand(4, seed=1)})
    rounded = parse(text, {"w": weight.astype(np.float16).astype(np.float32), "b": rand(4, seed=1)})
    assert halved(model)
    assert kinds(model) == {"w_half": "FLOAT16", "b": "FLOAT"}
    feeds = {"x": rand(1, 4, 8, 8, seed=2)}
    (got,), (want,) = session(model).run(feeds), session(rounded).run(feeds)
    # Sums of a constant and of a computed matrix may be added up in another order.
    np.testing.assert_allclose(got, want, rtol=0, atol=2e-6 * np.abs(want).max())
    assert not halved(model)


def test_other_readers_keep_float32_and_layers_share() -> None:
    model = parse(
        """g (float[2, 4] x) => (float[2, 4] y, float[4, 4] z) {
            a = MatMul (x, w)
            y = MatMul (a, w)
            z = Neg (w)
        }""",
        {"w": rand(4, 4)},
    )
    assert halved(model)
    assert kinds(model) == {"w": "FLOAT", "w_half": "FLOAT16"}
    assert [n.op_type for n in model.graph] == ["Cast", "MatMul", "MatMul", "Neg"]


@pytest.mark.parametrize("factor", [1e6, 1e-7])
def test_what_float16_does_not_hold_stays(factor: float) -> None:
    text = "g (float[2, 4] x) => (float[2, 4] y) { y = MatMul (x, w) }"
    model = parse(text, {"w": rand(4, 4) * np.float32(factor)})
    assert not halved(model)
    assert kinds(model) == {"w": "FLOAT"}


def test_computed_operands_and_other_constants_stay() -> None:
    text = "g (float[4, 4] x) => (float[4, 4] y) { a = MatMul (x, x) y = Mul (a, c) }"
    model = parse(text, {"c": rand(4, 4)})
    assert not halved(model)


def test_rows_of_a_table_are_read_of_float16() -> None:
    model = parse(
        "g (int64[3] i) => (float[3, 8] y) { y = Gather (t, i) }",
        {"t": rand(40, 8)},
    )
    assert halved(model)
    assert [n.op_type for n in model.graph] == ["Cast", "Gather"]
    (got,) = session(model).run({"i": np.asarray([0, 39, 7])})
    assert np.array_equal(got, rand(40, 8).astype(np.float16).astype(np.float32)[[0, 39, 7]])
    assert not halved(model)
