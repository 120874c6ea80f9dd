"""Gather from a table of integers: the QDQ graph's numbers to the bit under all three kernels."""

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qcompile.core.errors import Code, QCompileError
from qcompile.core.intersection import intersect, unsigned
from qcompile.passes.plan.retype import retyped
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.prove import executed
from qcompile.targets.tflite.reading import read_graph
from tests.passes.planning import planned, session
from tests.targets.tflite.lowering import RESOLVERS, TARGET, Arrays, Run, lowered, parse

ROWS, COLUMNS = 100, 48
RNG = np.random.default_rng(3)
IDS = {"ids": RNG.integers(0, ROWS, (2, 5))}
INTEGERS = RNG.integers(-127, 128, (ROWS, COLUMNS)).astype(np.int8)
SCALES = np.exp(RNG.normal(-4, 1, COLUMNS)).astype(np.float32)
FLOATS = (INTEGERS * SCALES).astype(np.float32)
BY_COLUMN = {"t": INTEGERS, "s": SCALES, "z": np.zeros(COLUMNS, np.int8)}
LOOKUP = "r = Gather(t, ids) y = DequantizeLinear<axis = -1>(r, s, z)"
OPS = ["GATHER", "DEQUANTIZE", "MUL"]


def model(body: str, constants: Arrays, ids: str = "int64[2,5] ids") -> ir.Model:
    return parse(f"g ({ids}) => (float y) {{ {body} }}", constants)


def check(of: ir.Model, feeds: Arrays = IDS) -> Run:
    run, wanted = lowered(of), session(of).run(feeds)[0]
    for runtime in RESOLVERS:
        np.testing.assert_array_equal(run.outputs(feeds, runtime)[0], wanted)
    return run


def test_a_scale_a_column() -> None:
    run = check(model(LOOKUP, BY_COLUMN))
    assert run.ops == OPS
    assert len(run.lowered.data) < INTEGERS.size + 4096
    assert [o.op for o in executed(run.lowered.data).left] == ["GATHER"]


def test_one_scale_for_all_is_a_quantized_value_like_any_other() -> None:
    constants = {"t": INTEGERS, "s": np.float32(1 / 64), "z": np.int8(3)}
    run = check(model(LOOKUP.replace("<axis = -1>", ""), constants))
    assert run.ops == ["GATHER", "DEQUANTIZE"]


def test_a_zero_point_that_all_columns_have() -> None:
    run = check(model(LOOKUP, {**BY_COLUMN, "z": np.full(COLUMNS, -7, np.int8)}))
    assert run.ops == OPS


@pytest.mark.parametrize("kind", ["int32", "int64"])
@pytest.mark.parametrize("shape", [(1,), (3,), (2, 1, 4)])
def test_indices_of_any_type_and_shape(kind: str, shape: tuple[int, ...]) -> None:
    ids = np.asarray(RNG.integers(0, ROWS, shape), kind)
    check(model(LOOKUP, BY_COLUMN, f"{kind}[{','.join(map(str, shape))}] ids"), {"ids": ids})


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(2, 40),
    st.integers(0, 2**32 - 1),
)
def test_any_table(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    constants = {
        "t": rng.integers(-128, 128, (rows, columns)).astype(np.int8),
        "s": np.exp2(rng.uniform(-30, 30, columns)).astype(np.float32),
        "z": np.full(columns, rng.integers(-128, 128), np.int8),
    }
    check(model(LOOKUP, constants), {"ids": rng.integers(0, rows, (2, 5))})


def test_constant_indices_may_count_from_the_back() -> None:
    body = "r = Gather(t, c) w = DequantizeLinear<axis = -1>(r, s, z) y = Add(w, x)"
    constants = {**BY_COLUMN, "c": np.array([0, -1, -ROWS])}
    of = parse(f"g (float[3,{COLUMNS}] x) => (float y) {{ {body} }}", constants)
    check(of, {"x": np.ones((3, COLUMNS), np.float32)})


def test_two_that_look_up_in_one_table_share_it() -> None:
    body = """r = Gather(t, ids) a = DequantizeLinear<axis = -1>(r, s, z)
        r2 = Gather(t, i2) b = DequantizeLinear<axis = -1>(r2, s, z) y = Add(a, b)"""
    of = parse(f"g (int64[2,5] ids, int64[5] i2) => (float y) {{ {body} }}", BY_COLUMN)
    run = check(of, {**IDS, "i2": np.arange(5)})
    tables = [t for t in read_graph(run.lowered.data).tensors if t.shape == (ROWS, COLUMNS)]
    assert len(tables) == 1


def test_what_reads_rows_computes_in_floats() -> None:
    # Add stands between dequantizers and a quantizer, and yet its operands are no integers.
    body = f"""{LOOKUP.replace("y =", "a =")} b = Add(a, a) q = QuantizeLinear(b, qs, qz)
        y = DequantizeLinear(q, qs, qz)"""
    run = check(model(body, {**BY_COLUMN, "qs": np.float32(0.1), "qz": np.int8(0)}))
    assert run.ops == [*OPS, "ADD", "QUANTIZE", "DEQUANTIZE"]


@pytest.mark.parametrize(
    ("body", "changed", "why"),
    [
        (LOOKUP, {"z": np.arange(COLUMNS, dtype=np.int8)}, "zero points"),
        (
            LOOKUP.replace("-1", "1"),
            {"s": np.ones(5, np.float32), "z": np.zeros(5, np.int8)},
            "last axis",
        ),
    ],
)
def test_what_is_refused(body: str, changed: Arrays, why: str) -> None:
    with pytest.raises(QCompileError, match=why) as caught:
        lowered(model(body, {**BY_COLUMN, **changed}))
    assert caught.value.code is Code.SCHEME_UNSUPPORTED


# --- planned ---------------------------------------------------------------------------------


def with_matmul() -> ir.Model:
    """Rows, and a product with them that is integer: its activation is quantized of its own."""
    weight = np.random.default_rng(1).normal(0, 0.2, (COLUMNS, 8)).astype(np.float32)
    return model("a = Gather(t, ids) y = MatMul(a, w)", {"t": FLOATS, "w": weight})


def test_the_plan_stores_the_table_in_integers() -> None:
    made = planned(with_matmul(), [IDS], target=TARGET, ends="float")
    assert made.plan.mode("Gather_0") == "table"
    run = lowered(made.qdq([]))
    assert run.ops == [*OPS, "QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"]
    wanted = session(made.qdq([])).run(IDS)[0]
    step = np.ptp(wanted) / 255
    assert np.abs(run.outputs(IDS)[0] - wanted).max() <= 1.01 * step


def test_one_plan_for_both_runtimes_has_one_table() -> None:
    of, tflite = with_matmul(), load_target("tflite-x86")
    both = unsigned(intersect([load_target("ort-x86-vnni"), tflite]))
    made = planned(of, [IDS], target=both, ends="float")
    assert made.plan.mode("Gather_0") == "table"
    assert retyped(made.plan, tflite, "float").mode("Gather_0") == "table"
