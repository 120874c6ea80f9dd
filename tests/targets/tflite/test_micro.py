"""What TFLite Micro lacks is not written for it."""

import numpy as np
import pytest

from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.operator_table import operator_table
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflite.runtime import TfliteSession
from qcompile.targets.tflite.verifier import verify_flatbuffer
from tests.targets.tflite.enclosing import enclosed
from tests.targets.tflite.lowering import parse

MICRO, ARM = load_target("tflite-micro"), load_target("tflite-arm64")


@pytest.mark.parametrize("op", MICRO.ops)
def test_every_kernel_is_one_that_tflite_micro_has(op: str) -> None:
    for kernel in MICRO.ops[op].kernels:
        forms = [f for f in operator_table()[kernel].forms if any("int8" in t for t in f.inputs)]
        assert any(form.micro for form in forms) or (op, kernel) == ("Neg", "NEG"), kernel


def test_what_it_lacks_is_named() -> None:
    assert set(ARM.ops) - set(MICRO.ops) == {"ReduceSum", "Tile"}
    assert MICRO.why_float("Tile") == "TFLite Micro has no TILE"


@pytest.mark.parametrize("call", ["Gelu<>(x)", 'Gelu<approximate="tanh">(x)', "Exp<>(x)"])
def test_functions_without_a_kernel_come_from_a_table(call: str) -> None:
    model = enclosed(parse(f"g (float[1,64] x) => (float y) {{ y = {call} }}"))
    small, usual = lower(model, MICRO), lower(model, ARM)
    assert verify_flatbuffer(small) == []
    assert [op.name for op in read_graph(small).operators] == ["CAST", "ADD", "GATHER"]
    assert len(read_graph(usual).operators) == 1
    sessions = [TfliteSession(data, "reference") for data in (small, usual)]
    for start in range(-128, 128, 64):
        x = np.arange(start, start + 64, dtype=np.int8).reshape(1, 64)
        a, b = (s.run({s.input_names[0]: x})[0].astype(int) for s in sessions)
        assert np.abs(a - b).max() <= 1
