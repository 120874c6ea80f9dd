"""Models under TFLite Micro: what they compute, and its reasons where it refuses."""

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reference.evaluate import run
from qcompile.targets.tflm import session
from qcompile.targets.tflm.session import MicroSession
from tests.targets.tflm.micro_models import gelu, hard_swish

pytestmark = [pytest.mark.tflm, pytest.mark.litert]


def test_it_runs_what_the_reference_computes() -> None:
    data = hard_swish()
    micro = MicroSession(data)
    assert (micro.input_names, micro.output_names) == (("x",), ("y",))
    for start in range(-128, 128, 64):
        x = np.arange(start, start + 64, dtype=np.int8).reshape(1, 64)
        assert np.array_equal(micro.run({"x": x})[0], run(data, {"x": x}, rule="micro")["y"])
    micro.close()


def test_a_missing_input_is_named() -> None:
    micro = MicroSession(hard_swish())
    with pytest.raises(QCompileError, match="input 'x' is not given"):
        micro.run({})
    with pytest.raises(QCompileError, match="failed while running"):
        micro.run({"x": np.zeros((1, 3), np.int8)})
    micro.close()


def test_an_operator_it_lacks_is_refused_in_its_words() -> None:
    with pytest.raises(QCompileError, match="builtin opcode 'GELU'") as caught:
        MicroSession(gelu())
    assert caught.value.code == Code.RUNTIME_REFUSED


def test_a_small_arena_is_refused() -> None:
    with pytest.raises(QCompileError, match="does not load") as caught:
        MicroSession(hard_swish(), arena=256)
    assert caught.value.code == Code.RUNTIME_REFUSED


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "is_installed", lambda: False)
    with pytest.raises(QCompileError) as caught:
        MicroSession(hard_swish())
    assert caught.value.code == Code.MISSING_EXTRA
    assert "qcompile-edge[tflm]" in str(caught.value)
