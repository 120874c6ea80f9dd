"""Every operator that the writer can write is read back, and computes the same."""

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.operator_table import Form, Row
from qcompile.targets.tflite.reader.batch import RULES
from qcompile.targets.tflite.reader.read import read_model
from qcompile.targets.tflite.reader.table import READERS
from qcompile.targets.tflite.runtime import TfliteSession
from tests.targets.tflite.lowering import TARGET
from tests.targets.tflite.one_op import float_range, make
from tests.targets.tflite.random_graphs.check import FORMS, written
from tests.targets.tflite.random_graphs.nodes import NODES, graph
from tests.targets.tflite.reader.reading import both, proto_of, random_feeds, session
from tests.targets.tflite.test_operator_table import TABLE, form_is_hybrid, forms

CLOSE = 1e-5
"""Of the output's largest magnitude."""
STEPS = {("TANH", "int16"): 2}
"""Where the runtime's kernel itself is further from the real function than a step."""


def test_the_table_has_every_operator_of_the_writer() -> None:
    assert set(TABLE) <= set(READERS)
    assert set(RULES) <= set(READERS)


@pytest.mark.parametrize("op", TABLE)
def test_every_form_is_read(op: str) -> None:
    span = float_range(op)
    for form in forms(TABLE[op]):
        made = make(op, form, output_range=span)
        found = both(made.data, made.feeds)
        kind = found.given[0].dtype
        limit = allowed(TABLE[op], form, kind.name, found.peak) if kind.kind == "f" else 1
        assert found.largest <= STEPS.get((op, kind.name), limit), form


def allowed(row: Row, form: Form, kind: str, peak: float) -> float:
    """Kernels of integer weights round float activations as they run: the ONNX form does not."""
    return (0.03 if form_is_hybrid(row, form) else CLOSE) * max(peak, 1.0)


@pytest.mark.parametrize("op", NODES)
def test_every_op_that_is_written_in_floats_is_read_back(op: str) -> None:
    for size in (0, 3):
        found = both(lower(graph(op, size, 17 + size).finished(), TARGET))
        assert found.largest <= CLOSE * max(found.peak, 1.0)


@pytest.mark.parametrize("op", list(NODES)[::3])
def test_ops_that_are_written_in_integers_are_read_back(op: str) -> None:
    for seed, form in enumerate(FORMS):
        found = both(written(graph(op, 1, seed).finished(), form))
        is_float = found.wanted[0].dtype.kind == "f"
        assert found.largest <= (0.05 * found.peak if is_float else 2)


@pytest.mark.parametrize("op", list(NODES)[1::4])
def test_what_was_written_in_integers_is_written_again_bit_by_bit(op: str, tmp_path: Path) -> None:
    """Read, and written with no pass between: the kernels compute the same integers."""
    for seed, form in enumerate(FORMS):
        first = written(graph(op, 2, 500 + seed).finished(), form)
        ir.save(read_model(first).model, tmp_path / "m.onnx")
        model = load_onnx(tmp_path / "m.onnx", static=True, allow_integer=True).model
        before, after = (TfliteSession(data, "builtin") for data in (first, lower(model, TARGET)))
        feeds = random_feeds(session(proto_of(first)))
        assert before.input_names == after.input_names
        for wanted, given in zip(before.run(feeds), after.run(feeds), strict=True):
            np.testing.assert_array_equal(given, wanted)


def test_an_operator_without_a_reader_is_named() -> None:
    from qcompile.targets.tflite.builder import Builder

    for op, told in (("RFFT2D", "RFFT2D"), ("CUSTOM", "custom operator")):
        b = Builder()
        x, y = b.tensor("x", (1, 4), "float32"), b.tensor("out", (1, 4), "float32")
        b.operator(op, [x], [y])
        data = b.finish([x], [y], names=(["x"], ["y"]), description="t")
        with pytest.raises(QCompileError, match=told) as caught:
            read_model(data)
        assert caught.value.code is Code.UNKNOWN_OP
        assert caught.value.node in ("out", "y")
