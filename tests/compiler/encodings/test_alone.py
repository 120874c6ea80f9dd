"""A file that gives every scale replaces the samples; nothing transforms the graph it speaks of."""

import json
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.export import export_build
from qcompile.compiler.importers.options import ImportOptions
from qcompile.core.errors import Code, QCompileError
from tests.compiler.small import built, cnn, pictures, saved


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    np.savez(folder / "data.npz", x=pictures(48))
    return saved(cnn(), folder)


@pytest.fixture(scope="module")
def given(model: Path) -> Path:
    """All scales of a build."""
    out, path = model.parent / "o.onnx", model.parent / "e.json"
    built(model, data=model.parent / "data.npz", out=out)
    export_build(out, model, path, "ort", ImportOptions(), prepared=False)
    return path


def test_no_samples_are_needed(model: Path, given: Path) -> None:
    calibrated = built(model, data=model.parent / "data.npz")
    result = built(model, encodings=given)
    for name, entry in calibrated.plan.values.items():
        params, ours = entry.params, result.plan.values[name].params
        assert params is not None and ours is not None
        assert ours.same_as(params), name
    assert result.plan.corrections == {}
    assert result.report.calibration == "none: every scale is given by e.json"
    assert result.report.ranges == "imported"
    assert any("biases are not corrected" in str(note) for note in result.report.notes)
    assert result.report.fit_to_ship


def test_it_is_judged_on_what_else_there_is(model: Path, given: Path) -> None:
    result = built(model, encodings=given, eval_data=model.parent / "data.npz")
    assert result.report.accuracy is not None
    assert result.report.accuracy.samples == 48
    worst = result.report.accuracy.worst_sqnr_db
    assert worst is not None and worst > 20


@pytest.mark.parametrize("data", [None, "none"])
def test_a_scale_that_is_missing(
    model: Path, given: Path, tmp_path: Path, data: str | None
) -> None:
    """Without data the build ends and names it; with ``-d none`` it is built otherwise."""
    table = json.loads(given.read_text())
    del table["b"]
    (tmp_path / "e.json").write_text(json.dumps(table))
    if data is None:
        with pytest.raises(QCompileError, match=r"e\.json has no scales for b, and") as caught:
            built(model, encodings=tmp_path / "e.json")
        assert caught.value.code == Code.NO_DATA
    else:
        result = built(model, encodings=tmp_path / "e.json", data=data)
        assert result.report.calibration != "none: every scale is given by e.json"


def test_with_d_none_too(model: Path, given: Path) -> None:
    result = built(model, encodings=given, data="none")
    assert result.report.scheme == "w8a8"
    assert result.report.calibration == "none: every scale is given by e.json"


def test_budgets_still_need_samples(model: Path, given: Path) -> None:
    with pytest.raises(QCompileError, match="need samples") as caught:
        built(model, encodings=given, sensitivity=True)
    assert caught.value.code == Code.NO_DATA


def test_nothing_is_transformed(model: Path, given: Path) -> None:
    data = model.parent / "data.npz"
    plain = built(model, data=data, effort="balanced", scheme="w8a8")
    result = built(model, data=data, effort="balanced", scheme="w8a8", encodings=given)
    transforms = {"layers equalized", "activations smoothed"}
    assert transforms & {t.step for t in plain.report.tried}
    assert not transforms & {t.step for t in result.report.tried}
    assert result.plan.transforms == {}
    assert result.plan.values["b"].rule == "imported"
