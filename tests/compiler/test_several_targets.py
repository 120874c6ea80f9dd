"""One plan, an artefact for each of several targets."""

from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

MODEL = small.DIGITS / "digits.onnx"
DATA = {"data": small.DIGITS / "calibration.npz", "eval_data": small.DIGITS / "test.npz"}
SETTINGS = {"config": small.DIGITS / "qcompile.toml", "latency": False}
OPTIONS = {**DATA, **SETTINGS}


def test_each_target_gets_its_files_and_all_share_the_scales(tmp_path: Path) -> None:
    targets = ["ort-x86-avx2", "ort-arm64"]
    built = qcompile.build_for(MODEL, targets, out=tmp_path, **OPTIONS)
    assert list(built) == targets
    for name, result in built.items():
        path = tmp_path / f"digits.{name}.onnx"
        assert path.read_bytes() == result.artefact
        assert result.report.target == name
        assert result.plan.target == name
        for suffix in (".report.json", ".plan.json", ".plan.npz"):
            assert path.with_name(path.name + suffix).is_file()
    assert len(list(tmp_path.iterdir())) == 8
    one, other = (result.plan.values for result in built.values())
    assert list(one) == list(other)
    assert all(one[name].params.same_as(other[name].params) for name in one)  # type: ignore[union-attr]


def test_what_saturates_on_one_target_is_safe_in_all_artefacts() -> None:
    """The artefact for ARM of a build that is also for AVX2 is that of AVX2, to the last bit.

    Nothing is tried out: a float stem is for x86 alone.
    """
    both = qcompile.build_for(MODEL, ["ort-x86-avx2", "ort-arm64"], effort="fast", **OPTIONS)
    alone = qcompile.build(MODEL, target="ort-x86-avx2", effort="fast", **OPTIONS)
    assert [
        e.scale.tobytes() for v in both["ort-arm64"].plan.values.values() if (e := v.params)
    ] == [e.scale.tobytes() for v in alone.plan.values.values() if (e := v.params)]


def test_a_saved_plan_of_one_of_them_gives_its_artefact_again(tmp_path: Path) -> None:
    built = qcompile.build_for(MODEL, ["ort-x86-avx2", "ort-arm64"], out=tmp_path, **OPTIONS)
    plan = tmp_path / "digits.ort-arm64.onnx.plan.json"
    again = qcompile.build(MODEL, target="ort-arm64", plan=plan, **SETTINGS)
    assert again.artefact == built["ort-arm64"].artefact


def test_separate_plans_are_those_of_builds_alone(tmp_path: Path) -> None:
    targets = ["ort-x86-avx2", "ort-arm64"]
    apart = qcompile.build_for(MODEL, targets, out=tmp_path, separate_plans=True, **OPTIONS)
    assert list(apart) == targets
    for name, result in apart.items():
        alone = qcompile.build(MODEL, target=name, **OPTIONS)
        assert result.artefact == alone.artefact
        assert result.plan.values.keys() == alone.plan.values.keys()
        path = tmp_path / f"digits.{name}.onnx"
        assert path.read_bytes() == result.artefact
        assert any("ort-x86-avx2" in n.message and "ort-arm64" in n.message
                   for n in result.report.notes), "how far they lie apart is said"  # fmt: skip
    assert len(list(tmp_path.iterdir())) == 8


@pytest.mark.litert
def test_targets_without_a_plan_in_common_have_one_each(tmp_path: Path) -> None:
    shaped = {"data": {"x": small.pictures(9)}, "shapes": {"x": (1, 3, 8, 8)}, "latency": False}
    model = small.saved(small.cnn(), tmp_path)
    targets = ["ort-x86-avx2", "tflite-arm64"]
    apart = qcompile.build_for(model, targets, separate_plans=True, **shaped)
    for name, result in apart.items():
        alone = qcompile.build(model, target=name, **shaped)
        assert result.artefact == alone.artefact


def test_one_plan_given_cannot_be_separate_ones(tmp_path: Path) -> None:
    qcompile.build(MODEL, target="ort-arm64", out=tmp_path / "a.onnx", **OPTIONS)
    plan = tmp_path / "a.onnx.plan.json"
    with pytest.raises(QCompileError, match="--separate-plans asks for several"):
        qcompile.build_for(MODEL, ["ort-x86-avx2", "ort-arm64"], plan=plan, separate_plans=True)


def test_nothing_is_written_when_one_of_them_fails(tmp_path: Path) -> None:
    model = small.saved(small.cnn(), tmp_path / "m")
    (tmp_path / "out").mkdir()
    with pytest.raises(QCompileError):
        qcompile.build_for(
            model, ["ort-x86-avx2", "tflite-arm64"], out=tmp_path / "out", separate_plans=True,
            data={"x": small.pictures(9)}, latency=False, scheme="w8a16",
        )  # fmt: skip
    assert list((tmp_path / "out").iterdir()) == []


def test_a_single_target_in_a_folder_bears_its_name(tmp_path: Path) -> None:
    qcompile.build_for(MODEL, ["ort-arm64"], out=tmp_path, **OPTIONS)
    assert (tmp_path / "digits.ort-arm64.onnx").is_file()


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match="is not a folder") as caught:
        qcompile.build_for(MODEL, ["ort-x86-avx2", "ort-arm64"], out=tmp_path / "no", **OPTIONS)
    assert caught.value.code is Code.OUTPUT_UNWRITABLE


def test_a_configuration_with_several_needs_build_for(tmp_path: Path) -> None:
    config = tmp_path / "qcompile.toml"
    config.write_text('[build]\ntarget = ["ort-x86-avx2", "ort-arm64"]\n')
    with pytest.raises(QCompileError, match="build_for"):
        qcompile.build(MODEL, config=config, data=small.DIGITS / "calibration.npz")


@pytest.mark.litert
def test_onnx_runtime_and_tflite_from_one_build(tmp_path: Path) -> None:
    targets = ["ort-x86-avx2", "tflite-x86"]
    built = qcompile.build_for(MODEL, targets, out=tmp_path, **OPTIONS)
    assert (tmp_path / "digits.tflite-x86.tflite").read_bytes() == built["tflite-x86"].artefact
    one, other = (result.plan.values for result in built.values())
    for name, entry in one.items():
        ours, theirs = entry.params, other[name].params
        assert ours is not None
        assert theirs is not None
        assert np.array_equal(ours.scale, theirs.scale)
        apart = 128 if entry.role == "activation" else 0
        assert np.all(ours.zero_point - theirs.zero_point == apart)
    for result in built.values():
        coverage = result.report.coverage
        assert coverage.integer == coverage.total
        assert result.report.accuracy is not None
        assert result.report.accuracy.agreement is not None
        assert result.report.accuracy.agreement.value >= 0.99
        parity = [n.message for n in result.report.notes if n.message.startswith("outputs of")]
        assert len(parity) == 1
        assert "name the same class for 64 of 64 samples" in parity[0]


@pytest.mark.litert
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_a_tflite_artefact_is_checked_whatever_its_layout(layout: str, tmp_path: Path) -> None:
    out = tmp_path / "digits.tflite"
    qcompile.build(MODEL, target="tflite-x86", out=out, io_layout=layout, **OPTIONS)
    report = qcompile.check(
        out, reference=MODEL, data=DATA["eval_data"], config=OPTIONS["config"], max_drop=1.0
    )
    assert report.passed
    shape = (1, 8, 8, 1) if layout == "nhwc" else (1, 1, 8, 8)
    assert report.artefact.inputs[0].shape == shape
    assert report.artefact.inputs[0].dtype == "int8"


@pytest.mark.litert
def test_float_ends_and_the_float_baseline_of_tflite() -> None:
    ends = qcompile.build(MODEL, target="tflite-x86", ends="float", **OPTIONS)
    assert ends.report.artefact.inputs[0].dtype == "float32"
    baseline = qcompile.build(MODEL, target="tflite-x86", scheme="float", **OPTIONS)
    assert baseline.report.accuracy is not None
    assert baseline.report.accuracy.worst_sqnr_db is not None
    assert baseline.report.accuracy.worst_sqnr_db > 100
    assert baseline.report.artefact.inputs[0].dtype == "float32"


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(QCompileError, match="nhwc, nchw"):
        qcompile.build(MODEL, target="ort-x86-avx2", io_layout="hwcn", **OPTIONS)


@pytest.mark.litert
def test_a_saved_plan_in_s8_gives_its_tflite_file_again(tmp_path: Path) -> None:
    out = tmp_path / "digits.tflite"
    built = qcompile.build(MODEL, target="tflite-x86", out=out, **OPTIONS)
    assert {v.dtype for v in built.plan.values.values() if v.role == "activation"} == {"int8"}
    plan = tmp_path / "digits.tflite.plan.json"
    again = qcompile.build(MODEL, target="tflite-x86", plan=plan, **SETTINGS)
    assert again.artefact == out.read_bytes()
    assert [v.params.zero_point.tolist() for v in again.plan.values.values() if v.params] == [
        v.params.zero_point.tolist() for v in built.plan.values.values() if v.params
    ]
