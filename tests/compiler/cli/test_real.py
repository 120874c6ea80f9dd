"""The command line on a real model: what a user meets, good and bad, with nothing faked."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.compiler.cli.conftest import Ended, Qcompile

SUFFIXES = ("", ".report.json", ".plan.json", ".plan.npz")


def classifier() -> onnx.ModelProto:
    """Two convolutions, a pool and a fully connected layer on 3 x 16 x 16 pictures."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = float(np.prod(shape[1:])) ** -0.5
        return onnx.numpy_helper.from_array(
            rng.normal(scale=scale, size=shape).astype(np.float32), name
        )

    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        net (float["N", 3, 16, 16] x) => (float["N", 4] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            b = Relu (a)
            c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, w2, b2)
            d = Relu (c)
            e = GlobalAveragePool (d)
            f = Flatten (e)
            y = Gemm <transB = 1> (f, w3, b3)
        }
    """)
    model.graph.initializer.extend([
        weights("w1", 8, 3, 3, 3), weights("b1", 8), weights("w2", 16, 8, 3, 3),
        weights("b2", 16), weights("w3", 4, 16), weights("b3", 4),
    ])  # fmt: skip
    return model


@dataclass(frozen=True)
class Place:
    """A folder with a model and data in it, and nothing else."""

    folder: Path
    model: Path
    data: Path

    def files(self) -> dict[str, bytes]:
        return {
            str(p.relative_to(self.folder)): p.read_bytes()
            for p in sorted(self.folder.rglob("*"))
            if p.is_file()
        }


def make_place(folder: Path, model: str = "model.onnx", data: str = "data") -> Place:
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder, folder / model, folder / data)
    onnx.save(classifier(), str(place.model))
    place.data.mkdir()
    rng = np.random.default_rng(1)
    for n in range(20):
        np.save(place.data / f"{n:02}.npy", rng.normal(size=(3, 16, 16)).astype(np.float32))
    return place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = make_place(tmp_path / "project")
    monkeypatch.chdir(place.folder)
    return place


def built(qcompile: Qcompile, *arguments: object) -> Ended:
    ended = qcompile("build", *arguments, "--no-latency")
    assert ended.code == 0, ended.err
    return ended


def test_a_build_writes_four_files_and_says_what_it_did(place: Place, qcompile: Qcompile) -> None:
    before = place.files()
    ended = qcompile("build", place.model, "-d", place.data, "-o", "out.onnx")
    assert (ended.code, ended.err) == (0, "")
    assert set(place.files()) - set(before) == {f"out.onnx{suffix}" for suffix in SUFFIXES}
    report = json.loads(Path("out.onnx.report.json").read_text(encoding="utf-8"))
    assert (report["kind"], report["fit_to_ship"]) == ("build", True)
    ops = {op["op"]: (op["integer"], op["float"]) for op in report["coverage"]["ops"]}
    assert (ops["Conv"], ops["Gemm"]) == ((2, 0), (1, 0))
    assert report["accuracy"]["outputs"][0]["sqnr_db"] > 20
    assert report["accuracy"]["data"] == "held out: 4 of 20"
    assert "latency" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80


def test_two_builds_are_equal_to_the_byte(
    place: Place, tmp_path: Path, qcompile: Qcompile, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(qcompile, place.model, "-d", place.data, "-o", "out.onnx", "--threads", "1")
    first = {suffix: Path(f"out.onnx{suffix}").read_bytes() for suffix in SUFFIXES}
    times = {suffix: Path(f"out.onnx{suffix}").stat().st_mtime_ns for suffix in SUFFIXES}
    built(qcompile, place.model, "-d", place.data, "-o", "out.onnx", "--threads", "2")
    assert times == {s: Path(f"out.onnx{s}").stat().st_mtime_ns for s in SUFFIXES}, "untouched"
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(place.folder, elsewhere)
    for suffix in SUFFIXES:
        (elsewhere / f"out.onnx{suffix}").unlink()
    monkeypatch.chdir(elsewhere)
    built(qcompile, "model.onnx", "-d", "data", "-o", elsewhere / "out.onnx")
    assert first == {s: (elsewhere / f"out.onnx{s}").read_bytes() for s in SUFFIXES}


def test_a_saved_plan_builds_the_same_without_data(place: Place, qcompile: Qcompile) -> None:
    built(qcompile, place.model, "-d", place.data, "-o", "out.onnx")
    built(qcompile, place.model, "--plan", "out.onnx.plan.json", "-o", "again.onnx")
    assert Path("again.onnx").read_bytes() == Path("out.onnx").read_bytes()


@pytest.mark.parametrize("name", ["with space", 'it\'s "q"', "模型-ü", "[bold]$(x);`y`"])
def test_any_name_works_everywhere(
    tmp_path: Path, qcompile: Qcompile, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    place = make_place(tmp_path / name, f"{name} m.onnx", f"{name} d")
    monkeypatch.chdir(place.folder)
    out = place.folder / f"{name} out.onnx"
    ended = built(qcompile, place.model, "-d", place.data, "-o", out)
    assert set(place.files()) > {f"{name} out.onnx{suffix}" for suffix in SUFFIXES}
    assert f"{name} m.onnx" in " ".join(ended.out.split("\n")[0].split())
    checked = qcompile("check", out, "--reference", place.model, "-d", place.data, "--no-latency")
    assert checked.code == 0, checked.err
    assert qcompile("inspect", out).code == 0


def test_json_on_stdout(place: Place, qcompile: Qcompile) -> None:
    ended = qcompile("build", place.model, "-d", place.data, "-o", "out.onnx", "--json")
    view = json.loads(ended.out)
    assert view["measured"]["latency"]["ratios"][0]["value"] > 0
    written = json.loads(Path("out.onnx.report.json").read_text(encoding="utf-8"))
    assert written == {key: value for key, value in view.items() if key != "measured"}


@pytest.mark.parametrize("scheme", ["w8a8-dynamic", "float"])
def test_schemes_that_need_no_data(place: Place, qcompile: Qcompile, scheme: str) -> None:
    built(qcompile, place.model, "-o", "out.onnx", "--scheme", scheme)
    onnx.checker.check_model(onnx.load("out.onnx"))


def test_random_data_is_unfit_to_ship(place: Place, qcompile: Qcompile) -> None:
    ended = built(qcompile, place.model, "--random-data", "-o", "out.onnx")
    assert "NOT FIT TO SHIP" in ended.out
    assert json.loads(Path("out.onnx.report.json").read_text())["fit_to_ship"] is False


def test_check_and_its_gates(place: Place, qcompile: Qcompile) -> None:
    built(qcompile, place.model, "-d", place.data, "-o", "out.onnx")
    common = ("check", "out.onnx", "--reference", place.model, "-d", place.data)
    good = qcompile(*common, "--min-sqnr", "15", "--min-agreement", "0.5")
    assert (good.code, good.err) == (0, "")
    assert "pass: min-sqnr" in good.out
    bad = qcompile(*common, "--no-latency", "--min-sqnr", "200")
    assert bad.code == 1
    assert "FAIL: min-sqnr" in bad.out
    nonsense = qcompile(*common, "--no-latency", "--max-drop", "1")
    assert (nonsense.code, "[bad-option]" in nonsense.err) == (2, True)


def test_inspect_of_a_model_and_of_an_artefact(place: Place, qcompile: Qcompile) -> None:
    built(qcompile, place.model, "-d", place.data, "-o", "out.onnx")
    for path, words in ((place.model, ("Conv", "float32")), ("out.onnx", ("Conv", "int8"))):
        ended = qcompile("inspect", path)
        assert (ended.code, ended.err) == (0, "")
        assert all(word in ended.out for word in words)
        assert json.loads(qcompile("inspect", path, "--json").out)["model"]["nodes"] > 0


# --- what goes wrong --------------------------------------------------------------------------


def truncated(place: Place) -> tuple[object, ...]:
    place.model.write_bytes(place.model.read_bytes()[:-200])
    return (place.model, "-d", place.data, "-o", "out.onnx")


def not_a_model(place: Place) -> tuple[object, ...]:
    place.model.write_text("this is a text\n")
    return (place.model, "-d", place.data, "-o", "out.onnx")


def empty_model(place: Place) -> tuple[object, ...]:
    place.model.write_bytes(b"")
    return (place.model, "-d", place.data, "-o", "out.onnx")


def data_with_nan(place: Place) -> tuple[object, ...]:
    np.save(place.data / "03.npy", np.full((3, 16, 16), np.nan, np.float32))
    return (place.model, "-d", place.data, "-o", "out.onnx")


def data_of_wrong_shape(place: Place) -> tuple[object, ...]:
    np.save(place.data / "03.npy", np.zeros((3, 15, 16), np.float32))
    return (place.model, "-d", place.data, "-o", "out.onnx")


def empty_data(place: Place) -> tuple[object, ...]:
    (place.folder / "empty").mkdir()
    return (place.model, "-d", "empty", "-o", "out.onnx")


def a_pipe(place: Place) -> tuple[object, ...]:
    os.mkfifo(place.folder / "pipe")
    return (place.model, "-d", place.data, "-o", "pipe")


def a_symbolic_link_to_the_input(place: Place) -> tuple[object, ...]:
    Path("link.onnx").symlink_to(place.model)
    return (place.model, "-d", place.data, "-o", "link.onnx")


def a_hard_link_to_the_input(place: Place) -> tuple[object, ...]:
    os.link(place.model, "hard.onnx")
    return (place.model, "-d", place.data, "-o", "hard.onnx")


def the_external_data_of_the_input(place: Place) -> tuple[object, ...]:
    onnx.save(
        classifier(), str(place.model), save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    return (place.model, "-d", place.data, "-o", "weights.bin")


def of(*arguments: object) -> Callable[[Place], tuple[object, ...]]:
    return lambda _: arguments


D = ("-d", "data")
CASES = {
    "model missing": (of("no.onnx", *D, "-o", "out.onnx"), 2, "model-not-found"),
    "model is a folder": (of("data", *D, "-o", "out.onnx"), 2, "model-"),
    "not a model": (not_a_model, 3, "not-a-model"),
    "empty model": (empty_model, 3, "not-a-model"),
    "truncated": (truncated, 3, "model-truncated"),
    "no data": (of("model.onnx", "-o", "out.onnx"), 2, "no-data"),
    "data missing": (of("model.onnx", "-d", "no", "-o", "out.onnx"), 2, "data-not-found"),
    "data empty": (empty_data, 2, "data-empty"),
    "eval missing": (of("model.onnx", *D, "--eval", "no", "-o", "out.onnx"), 2, "data-not-found"),
    "NaN": (data_with_nan, 2, "data-values"),
    "wrong shape": (data_of_wrong_shape, 2, "data-shape"),
    "output is a folder": (of("model.onnx", *D, "-o", "data"), 2, "output-not-a-file"),
    "output is a device": (of("model.onnx", *D, "-o", "/dev/null"), 2, "output-not-a-file"),
    "output is a pipe": (a_pipe, 2, "output-not-a-file"),
    "output in no folder": (of("model.onnx", *D, "-o", "no/out.onnx"), 2, "output-unwritable"),
    "output not writable": (of("model.onnx", *D, "-o", "/proc/out.onnx"), 2, "output-unwritable"),
    "output is the input": (of("model.onnx", *D, "-o", "./model.onnx"), 2, "output-is-input"),
    "output links to the input": (a_symbolic_link_to_the_input, 2, "output-is-input"),
    "output is a hard link": (a_hard_link_to_the_input, 2, "output-is-input"),
    "output is external data": (the_external_data_of_the_input, 2, "output-is-input"),
    "output among the data": (of("model.onnx", *D, "-o", "data/out.onnx"), 2, "output-is-input"),
    "unknown target": (of("model.onnx", *D, "-o", "o", "-t", "z80"), 2, "unknown-target"),
    "unknown scheme": (of("model.onnx", *D, "-o", "o", "--scheme", "w9a9"), 2, "bad-option"),
    "unknown effort": (of("model.onnx", *D, "-o", "o", "--effort", "huge"), 2, "bad-option"),
    "unknown ranges": (of("model.onnx", *D, "-o", "o", "--ranges", "best"), 2, "bad-option"),
    "unknown granularity": (
        of("model.onnx", *D, "-o", "o", "--granularity", "row"), 2, "bad-option",
    ),
    "unknown ends": (of("model.onnx", *D, "-o", "o", "--io", "int7"), 2, "bad-option"),
    "no such input": (of("model.onnx", *D, "-o", "o", "--shape", "z=1,3,16,16"), 2, "bad-option"),
    "shape contradicts": (
        of("model.onnx", *D, "-o", "o", "--shape", "x=1,5,16,16"), 3, "shape-conflict",
    ),
    "no such plan": (of("model.onnx", "--plan", "no.json", "-o", "o"), 2, "bad-plan"),
    "plan is no plan": (of("model.onnx", "--plan", "model.onnx", "-o", "o"), 2, "bad-plan"),
    "no such config": (of("model.onnx", *D, "-o", "o", "--config", "no.toml"), 2, "bad-config"),
    "no such labels": (of("model.onnx", *D, "-o", "o", "--label-file", "no"), 2, "data-not-found"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_has_its_own_message_and_leaves_nothing(
    place: Place, qcompile: Qcompile, case: str
) -> None:
    make, code, slug = CASES[case]
    arguments = make(place)
    before = place.files()
    ended = qcompile("build", *arguments)
    assert ended.code == code, ended.err
    assert ended.err.startswith(f"error: [{slug}"), ended.err
    assert ended.out == ""
    assert place.files() == before


def test_a_disk_that_is_full_at_the_last_moment(
    place: Place, qcompile: Qcompile, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = place.files()

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    ended = qcompile("build", place.model, "--scheme", "float", "-o", "out.onnx", "--no-latency")
    assert (ended.code, ended.out) == (2, "")
    assert "[output-unwritable]" in ended.err
    assert "the disk is full" in ended.err
    assert place.files() == before


def test_check_of_what_is_not_there(place: Place, qcompile: Qcompile) -> None:
    ended = qcompile("check", "no.onnx", "--reference", place.model, "-d", place.data)
    assert (ended.code, "[model-not-found]" in ended.err) == (2, True)
    ended = qcompile("inspect", "no.onnx")
    assert (ended.code, "[model-not-found]" in ended.err) == (2, True)
