"""A check of a finished file: every gate both ways, every kind of end, on and off its machine."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler import measure
from qcompile.compiler.api import check
from qcompile.compiler.report.model import CheckReport
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small


def checked(artefact: Path, reference: Path, **options: object) -> CheckReport:
    given = {"data": {"x": small.pictures(24, seed=5)}, "latency": False, **options}
    return check(artefact, reference=reference, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small.saved(small.cnn(), tmp_path_factory.mktemp("check"))


@pytest.fixture(scope="module")
def artefact(cnn: Path) -> Path:
    out = cnn.with_name("int8.onnx")
    small.built(cnn, data={"x": small.pictures(32)}, out=out)
    return out


@pytest.fixture(scope="module")
def foreign(cnn: Path) -> Path:
    """Made for a machine that this one is not, whatever this one is."""
    out = cnn.with_name("foreign.onnx")
    target = (
        "ort-arm64" if not measure.runs_here(measure.load_target("ort-arm64")) else small.TARGET
    )
    small.built(cnn, data={"x": small.pictures(32)}, out=out, target=target)
    return out


@pytest.mark.parametrize(
    ("gate", "holds", "fails"),
    [("min_sqnr", 15.0, 150.0), ("max_latency_ratio", 1e6, 1e-6)],
)
def test_each_gate_both_ways(
    cnn: Path, artefact: Path, gate: str, holds: float, fails: float
) -> None:
    latency = gate == "max_latency_ratio"
    for limit, passed in ((holds, True), (fails, False)):
        report = checked(artefact, cnn, latency=latency, **{gate: limit})
        (found,) = report.gates
        assert (found.name, found.limit) == (gate.replace("_", "-"), limit)
        assert report.passed is found.passed is passed


def test_the_gates_on_classes(tmp_path: Path) -> None:
    data = small.DIGITS / "test.npz"
    options = {"config": small.DIGITS / "qcompile.toml", "data": data, "latency": False}
    reference = small.DIGITS / "digits.onnx"
    small.digits(out=tmp_path / "out.onnx")
    report = check(
        tmp_path / "out.onnx", reference=reference, max_drop=1.0, min_agreement=0.98, **options
    )  # type: ignore[arg-type]
    assert report.passed
    bad = onnx.load(str(reference))
    for tensor in bad.graph.initializer:
        if tensor.name == "14_Linear.bias":
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[3] += 100
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(bad, str(tmp_path / "bad.onnx"))
    report = check(
        tmp_path / "bad.onnx", reference=reference, max_drop=1.0, min_agreement=0.98, **options
    )  # type: ignore[arg-type]
    assert [(g.name, g.passed) for g in report.gates] == [
        ("max-drop", False),
        ("min-agreement", False),
    ]
    assert report.gates[0].value > 80
    assert report.gates[1].value < 0.2


SCORE = """
def score(outputs, samples, reference):
    return {
        "near": [-abs(y["y"] - r["y"]).max() for y, r in zip(outputs, reference, strict=True)],
        "samples": len(samples) / 24,
    }
"""


def test_a_metric_of_the_users_own(cnn: Path, artefact: Path, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(SCORE)
    spec = f"{tmp_path}/own.py:score"
    report = checked(artefact, cnn, metric=spec, max_drop=100.0)
    near, samples = report.accuracy.own
    assert (near.float_value, samples.artefact_value) == (0, 1)
    assert near.artefact_value < 0
    assert near.drop_low is not None
    assert [(g.name, g.remark, g.passed) for g in report.gates] == [
        ("max-drop", "near", True),
        ("max-drop", "samples", True),
    ]
    assert not checked(artefact, cnn, metric=spec, max_drop=0.0).passed
    (tmp_path / "q.toml").write_text('[data]\nmetric = "own.py:score"\n')
    assert checked(artefact, cnn, config=tmp_path / "q.toml").accuracy.own == (near, samples)
    built = small.built(
        cnn, data={"x": small.pictures(32)}, eval_data={"x": small.pictures(24, seed=5)},
        metric=spec,
    )  # fmt: skip
    assert built.report.accuracy is not None
    assert [figure.metric for figure in built.report.accuracy.own] == ["near", "samples"]
    with pytest.raises(QCompileError) as caught:
        checked(artefact, cnn, metric=f"{tmp_path}/own.py:other")
    assert caught.value.code is Code.BAD_METRIC


def test_a_gate_on_what_was_not_measured(cnn: Path, artefact: Path) -> None:
    for gate in ("max_drop", "max_latency_ratio"):
        with pytest.raises(QCompileError) as caught:
            checked(artefact, cnn, **{gate: 1.0})
        assert caught.value.code is Code.BAD_OPTION


def test_no_gates_pass(cnn: Path, artefact: Path) -> None:
    report = checked(artefact, cnn)
    assert report.passed
    assert report.gates == ()
    assert report.artefact.name == "int8.onnx"
    assert report.reference.name == "model.onnx"
    assert report.accuracy.samples == 24


def test_the_figures_are_those_of_the_build(cnn: Path, tmp_path: Path) -> None:
    judged = {"x": small.pictures(24, seed=5)}
    result = small.built(
        cnn, data={"x": small.pictures(32)}, eval_data=judged, out=tmp_path / "out.onnx"
    )
    report = checked(tmp_path / "out.onnx", cnn)
    assert result.report.accuracy is not None
    assert report.accuracy.outputs == result.report.accuracy.outputs


def test_a_float_artefact_is_the_float_model(cnn: Path, tmp_path: Path) -> None:
    small.built(cnn, scheme="float", out=tmp_path / "out.onnx")
    report = checked(tmp_path / "out.onnx", cnn, min_sqnr=100.0, min_agreement=1.0)
    assert report.passed
    assert checked(cnn, cnn).accuracy.outputs[0].identical


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8-dynamic"])
def test_integer_ends_are_fed_and_read_as_floats(cnn: Path, tmp_path: Path, scheme: str) -> None:
    data = {"x": small.pictures(32)}
    small.built(cnn, data=data, ends="uint8", out=tmp_path / "u8.onnx", scheme=scheme)
    small.built(cnn, data=data, out=tmp_path / "f.onnx", scheme=scheme)
    integer, floats = (checked(tmp_path / name, cnn) for name in ("u8.onnx", "f.onnx"))
    kinds = [s.dtype for s in (*integer.artefact.inputs, *integer.artefact.outputs)]
    assert kinds == (["uint8"] * 2 if scheme == "w8a8" else ["float32"] * 2)
    a, b = (r.accuracy.outputs[0].sqnr_db for r in (integer, floats))
    assert a is not None
    assert b is not None
    assert a > 18
    assert b >= a - 1.0
    timed = checked(tmp_path / "u8.onnx", cnn, latency=True)
    assert timed.measured.latency is not None


def test_an_artefact_for_another_machine_is_judged_exactly_and_not_timed(
    cnn: Path, artefact: Path, foreign: Path
) -> None:
    report = checked(foreign, cnn, latency=True)
    assert report.accuracy.arithmetic == "exact integer sums; this machine is not the target"
    assert report.measured.latency is None
    assert "this machine is not one" in report.measured.no_latency
    with pytest.raises(QCompileError) as caught:
        checked(foreign, cnn, latency=True, max_latency_ratio=2.0)
    assert caught.value.code is Code.BAD_OPTION
    assert checked(cnn, cnn).accuracy.arithmetic == ""


def test_no_data(cnn: Path, artefact: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        checked(artefact, cnn, data=None)
    assert caught.value.code is Code.NO_DATA


def test_data_of_the_configuration(
    cnn: Path, artefact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("eval.npz", x=small.pictures(5))
    Path("qcompile.toml").write_text('[data]\neval = "eval.npz"\n')
    assert checked(artefact, cnn, data=None).accuracy.data == "5 samples of eval.npz"


def test_models_that_do_not_belong_together(cnn: Path, tmp_path: Path) -> None:
    other = small.saved(small.cnn(classes=6), tmp_path)
    with pytest.raises(QCompileError) as caught:
        checked(other, cnn)
    assert caught.value.code is Code.RUNTIME_FAILED
    rows = small.saved(small.mlp(), tmp_path, "mlp.onnx")
    with pytest.raises(QCompileError):
        checked(rows, cnn)


def test_a_check_writes_nothing(cnn: Path, artefact: Path) -> None:
    before = {p: p.read_bytes() for p in sorted(cnn.parent.iterdir())}
    checked(artefact, cnn, latency=True)
    assert before == {p: p.read_bytes() for p in sorted(cnn.parent.iterdir())}
