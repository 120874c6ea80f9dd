"""A text is read in pieces where that is what shows a packed cache, and nothing else changes."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.compiler.verify.stored_state import PIECE, StoredState, with_stored_state
from qcompile.core.errors import QCompileError
from qcompile.core.signature import TensorSpec
from qcompile.passes.decoder.store_caches import KeyGrid, StoreCaches
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.decoders import VOCABULARY, Shape, canonical, decoder, feeds

SHAPE = Shape(layers=1, size=32)


def opened(steps: float) -> StoredState:
    """A decoder whose keys have that many steps of a 4-bit grid."""
    model = canonical(decoder(SHAPE))
    ends = np.full(64, -4, np.float32), np.full(64, steps, np.float32)
    assert StoreCaches(4, {"present.0.key": KeyGrid(*ends)})(model).modified
    specs = [_spec(value) for value in model.graph.inputs]
    session = with_stored_state(OrtExecutor().load(model), specs)
    assert isinstance(session, StoredState)
    return session


def _spec(value: ir.Value) -> TensorSpec:
    shape = tuple(d if isinstance(d, int) else str(d) for d in value.shape or ())
    dtype = value.dtype
    assert dtype is not None
    return TensorSpec(value.name or "", str(dtype.numpy()), shape)


def test_it_looks_like_the_float_model() -> None:
    plain = OrtExecutor().load(canonical(decoder(SHAPE)))
    session = opened(0.5)
    assert set(session.input_names) == set(plain.input_names)
    assert set(session.output_names) == set(plain.output_names)
    assert with_stored_state(plain, [TensorSpec("input_ids", "int64", (1, 2))]) is plain


def test_what_is_stored_counts_for_what_comes_later() -> None:
    text = np.random.default_rng(0).integers(0, VOCABULARY, (2, 5 * PIECE))
    given = feeds(SHAPE, text)
    wanted = OrtExecutor().load(canonical(decoder(SHAPE))).run(given)[0]
    errors = []
    for steps in (0.5, 2.0):
        apart = np.abs(opened(steps).run(given)[0] - wanted).max(axis=(0, 2))
        assert apart.shape == (5 * PIECE,)
        assert (apart[: 2 * PIECE] < 1e-4).all()  # nothing is stored yet
        errors.append(apart[3 * PIECE :].mean())
    assert errors[1] > errors[0] > 1e-3


def test_a_cache_of_floats_is_refused() -> None:
    text = np.random.default_rng(0).integers(0, VOCABULARY, (1, 4))
    past = [np.zeros((1, 2, 3, 32), np.float32)] * 2
    with pytest.raises(QCompileError, match="behind a cache"):
        opened(0.5).run(feeds(SHAPE, text, past))
