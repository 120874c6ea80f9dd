"""Models with int16 activations are built under w8a16 where the target has it, else refused."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import BuildResult, build
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

X = {"x": small.pictures(24)}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An int16x8 file of ours, as any other tool's."""
    folder = tmp_path_factory.mktemp("wide")
    out = folder / "wide.tflite"
    given = {"effort": "fast", "latency": False, "out": out}
    build(small.saved(small.cnn(), folder), target="tflite-x86", scheme="w8a16", data=X, **given)  # type: ignore[arg-type]
    return out


def types(made: BuildResult) -> set[str]:
    return {e.dtype for e in made.plan.values.values() if e.role == "activation"}


@pytest.mark.litert
def test_its_scales_are_kept_in_int16(wide: Path) -> None:
    made = build(wide, target="tflite-x86", latency=False)
    assert (made.plan.scheme, types(made)) == ("w8a16", {"int16"})
    assert any("int16 activations" in note.message for note in made.report.notes)
    assert {e.rule for e in made.plan.values.values() if e.role == "weight"} == {"imported"}


@pytest.mark.litert
def test_a_target_without_such_kernels_is_named(wide: Path) -> None:
    with pytest.raises(QCompileError, match="ort-x86-vnni has no kernels for w8a16") as caught:
        build(wide, target="ort-x86-vnni", latency=False)
    assert caught.value.code is Code.SCHEME_UNSUPPORTED
    assert "--requantize" in (caught.value.hint or "")


@pytest.mark.litert
def test_requantize_and_a_named_scheme_are_obeyed(wide: Path) -> None:
    data = {"x": X["x"].transpose(0, 2, 3, 1)}
    given = {"data": data, "eval_data": data, "effort": "fast", "latency": False}
    made = build(wide, target="ort-x86-vnni", requantize=True, **given)  # type: ignore[arg-type]
    assert types(made) == {"uint8"}
    named = build(wide, target="tflite-x86", scheme="w8a8", **given)  # type: ignore[arg-type]
    assert types(named) == {"int8"}
    before, after = (m.report.accuracy for m in (made, named))
    assert before is not None and after is not None
    assert min(o.sqnr_db for a in (before, after) for o in a.outputs if o.sqnr_db is not None) > 20
    assert np.isfinite([o.sqnr_db for o in before.outputs if o.sqnr_db is not None]).all()
