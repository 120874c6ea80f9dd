"""Budgets: the bad layer is found and left float, and nothing else; what cannot be is said."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.api import BuildResult
from qcompile.compiler.cli.main import run
from qcompile.compiler.report.json_view import report_json
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.catalog import load_target
from qcompile.targets.host import host_target, runs_here
from tests.compiler import small
from tests.compiler.mixed import planted

ELSEWHERE = "ort-arm64" if not runs_here(load_target("ort-arm64")) else "ort-x86-vnni"


def built(folder: Path, **options: Any) -> BuildResult:
    """The network with one bad layer, built fast."""
    chosen = {"data": planted.pictures(), "effort": "fast", **options}
    return small.built(planted.saved(folder), **chosen)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildResult]:
    folder = tmp_path_factory.mktemp("kept")
    return folder, built(folder, max_drop=6.0, sensitivity=True, out=folder / "out.onnx")


def test_the_layer_is_bad(tmp_path: Path) -> None:
    result = built(tmp_path)
    assert result.report.mixed is None
    assert result.report.accuracy is not None
    assert result.report.accuracy.agreement is not None
    assert result.report.accuracy.agreement.value < 0.7


def test_the_bad_layer_is_found_first_and_alone_left_float(kept: tuple[Path, BuildResult]) -> None:
    _, result = kept
    mixed = result.report.mixed
    assert mixed is not None
    assert mixed.search is not None
    assert mixed.layers[0].node == planted.BAD
    assert mixed.layers[0].gained_db > 15 > 3 > mixed.layers[1].gained_db
    assert mixed.layers[0].best
    alone = {layer.node: layer.alone_db for layer in mixed.layers}
    assert min(alone, key=lambda name: alone[name] or 0.0) == planted.BAD
    assert mixed.search.float_layers == (planted.BAD,)
    assert mixed.search.drop_before is not None
    assert mixed.search.drop is not None
    assert mixed.search.drop_before > 20 > 6 >= mixed.search.drop
    floats = {n.name: n.reason for n in result.report.coverage.float_nodes}
    assert set(floats) == {planted.BAD, "relu2", "flat"}, "what follows it as well"
    assert "to keep the budget" in floats[planted.BAD]
    assert result.report.passed
    assert result.report.accuracy is not None
    assert result.report.accuracy.agreement is not None
    assert result.report.accuracy.agreement.value > 0.9


def test_a_second_build_is_the_same(kept: tuple[Path, BuildResult], tmp_path: Path) -> None:
    folder, first = kept
    again = built(tmp_path, max_drop=6.0, sensitivity=True, threads=1, out=tmp_path / "out.onnx")
    assert again.artefact == first.artefact
    for suffix in (".report.json", ".plan.json", ".plan.npz"):
        one, two = (path / f"out.onnx{suffix}" for path in (folder, tmp_path))
        assert one.read_bytes() == two.read_bytes(), suffix


def test_the_saved_plan_replays_it(kept: tuple[Path, BuildResult]) -> None:
    folder, first = kept
    again = small.built(
        folder / "model.onnx", plan=folder / "out.onnx.plan.json", max_drop=6.0, target=None
    )
    assert again.artefact == first.artefact
    assert small.warnings(again) == []
    assert any("budgets were not looked at" in str(note) for note in again.report.notes)


def test_nothing_is_done_where_the_budget_is_kept(tmp_path: Path) -> None:
    plain = built(tmp_path)
    result = built(tmp_path, max_drop=100.0)
    assert result.artefact == plain.artefact
    assert result.report.mixed is not None
    assert result.report.mixed.search is not None
    assert result.report.mixed.search.float_layers == ()
    assert result.report.mixed.layers == ()


def test_a_list_without_budgets_changes_nothing(tmp_path: Path) -> None:
    plain = built(tmp_path)
    result = built(tmp_path, sensitivity=True)
    assert result.artefact == plain.artefact
    assert result.report.mixed is not None
    assert result.report.mixed.search is None
    assert result.report.mixed.layers[0].points is not None
    assert result.report.mixed.layers[0].points > 20
    assert result.report.mixed.layers[0].bytes is not None
    assert result.report.mixed.layers[0].bytes > 1000


def test_a_budget_that_cannot_be_kept(tmp_path: Path) -> None:
    result = built(tmp_path, max_size="5%", out=tmp_path / "out.onnx")
    assert not result.report.passed
    assert not (tmp_path / "out.onnx").exists()
    assert not list(tmp_path.glob("out.onnx*"))
    mixed = result.report.mixed
    assert mixed is not None
    (gate,) = mixed.gates
    assert (gate.name, gate.passed) == ("max-size", False)
    assert gate.value == len(result.artefact)


def test_budgets_that_exclude_each_other_show_the_best_that_was_found(tmp_path: Path) -> None:
    free = built(tmp_path)
    limit = len(free.artefact) + 10
    result = built(tmp_path, max_size=limit, max_drop=6.0)
    assert not result.report.passed
    mixed = result.report.mixed
    assert mixed is not None
    assert mixed.search is not None
    assert {gate.name: gate.passed for gate in mixed.gates} == {
        "max-size": False, "max-drop": True,
    }  # fmt: skip
    assert mixed.search.float_layers == (planted.BAD,)


def test_the_command_line_ends_in_1_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = planted.saved(tmp_path)
    np.savez(tmp_path / "x.npz", x=planted.pictures()["x"])
    common = ["build", str(model), "-t", small.TARGET, "-d", str(tmp_path / "x.npz")]
    common += ["--no-latency", "--effort", "fast", "-o", str(tmp_path / "out.onnx")]
    assert run([*common, "--max-size", "5%"]) == 1
    assert "FAIL: max-size" in capsys.readouterr().out
    assert not (tmp_path / "out.onnx").exists()
    assert run([*common, "--max-drop", "6", "--sensitivity"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1 layer left float for the budgets: second" in out
    assert "pass: max-drop 6" in out
    assert "Sensitivity" in out


def test_no_time_at_all_says_so(tmp_path: Path) -> None:
    result = built(tmp_path, max_drop=6.0, time_budget="0.000001s")
    assert not result.report.passed
    mixed = result.report.mixed
    assert mixed is not None
    assert mixed.search is not None
    assert not mixed.search.in_time
    assert mixed.layers == ()


def test_without_samples_there_is_nothing_to_judge_on(tmp_path: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        small.built(planted.saved(tmp_path), scheme="w8a8-dynamic", max_drop=1.0)
    assert caught.value.code is Code.NO_DATA


def test_time_is_not_in_the_file_beside_the_artefact(kept: tuple[Path, BuildResult]) -> None:
    _, result = kept
    timed = replace(result.report, measured=replace(result.report.measured, mixed=None))
    assert report_json(timed) == report_json(result.report)


def test_a_budget_of_time_is_measured(tmp_path: Path) -> None:
    options = {"target": host_target(), "latency": True}
    for budget, passes in (("0.01x", False), ("500x", True)):
        result = built(tmp_path, max_latency=budget, **options)
        assert result.report.passed is passes
        times = result.report.measured.mixed
        assert times is not None
        (gate,) = times.gates
        assert (gate.name, gate.passed) == ("max-latency", passes)
        assert 0 < gate.value < 1000
        assert result.report.mixed is not None
        assert result.report.mixed.gates == (), "what a clock decides stands apart"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"target": host_target(), "latency": False}, Code.BAD_OPTION),
        ({"target": ELSEWHERE, "latency": True}, Code.DEVICE_UNFIT),
    ],
)
def test_a_budget_of_time_that_cannot_be_measured_is_refused(
    tmp_path: Path, options: dict[str, Any], code: Code
) -> None:
    with pytest.raises(QCompileError) as caught:
        built(tmp_path, max_latency="15ms", **options)
    assert caught.value.code is code
    assert "--max-latency" in caught.value.message


@pytest.mark.litert
@pytest.mark.parametrize("target", ["tflite-arm64", "tflite-x86"])
def test_tflite_too(tmp_path: Path, target: str) -> None:
    result = built(tmp_path, max_drop=6.0, target=target)
    assert result.report.mixed is not None
    assert result.report.mixed.search is not None
    assert result.report.mixed.search.float_layers == (planted.BAD,)
    assert result.report.passed


@pytest.mark.litert
def test_int16_takes_the_place_of_floats_where_it_is_smaller(tmp_path: Path) -> None:
    options = {"data": planted.pictures(), "effort": "fast", "target": "tflite-x86"}
    model = small.saved(planted.outlying(), tmp_path)
    plain = small.built(model, **options)
    result = small.built(model, max_drop=6.0, **options)
    assert plain.report.accuracy is not None
    assert plain.report.accuracy.agreement is not None
    assert plain.report.accuracy.agreement.value < 0.8
    assert result.report.mixed is not None
    found = result.report.mixed.search
    assert found is not None
    assert found.float_layers == ()
    assert "first" in found.wide_layers
    assert found.drop is not None
    assert found.drop <= 6
    assert result.report.accuracy is not None
    assert result.report.accuracy.agreement is not None
    assert result.report.accuracy.agreement.value > 0.9
    assert not [n for n in result.report.coverage.float_nodes if n.name in {"first", "second"}]


def test_what_an_app_is_told_counts_as_size(tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(f"a class with a long name {i}" for i in range(4)))
    result = built(tmp_path, max_size="1MB", class_names=names)
    assert result.report.mixed is not None
    (gate,) = result.report.mixed.gates
    assert gate.value == len(result.artefact)
    assert b"a class with a long name 3" in result.artefact
