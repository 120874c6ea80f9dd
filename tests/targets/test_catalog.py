"""Targets by name and by path, and the files that build on others."""

import subprocess
import sys
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.core.numerics.saturation import KINDS, PAIRINGS
from qcompile.targets.catalog import load_target, target_names

NAMES = (
    "ort-arm64",
    "ort-qnn-htp",
    "ort-x86-avx2",
    "ort-x86-vnni",
    "tflite-arm64",
    "tflite-ethos-u55-128",
    "tflite-ethos-u65-256",
    "tflite-ethos-u85-256",
    "tflite-micro",
    "tflite-x86",
)


def refusal(name_or_path: str | Path) -> QCompileError:
    with pytest.raises(QCompileError) as caught:
        load_target(name_or_path)
    return caught.value


def test_names_are_the_targets_without_their_bases() -> None:
    assert target_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_target_loads_and_says_what_was_measured(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    assert target.evidence.strip()
    assert "measured" in target.evidence
    is_chip = name == "tflite-micro" or target.accelerator is not None
    assert target.machines or is_chip, "no computer is a microcontroller"
    assert not set(target.ops) & set(target.float_ops)


@pytest.mark.parametrize("name", NAMES)
def test_every_exclusion_has_its_sentence(name: str) -> None:
    for op, rule in load_target(name).ops.items():
        assert rule.kernels, op
        assert bool(rule.unless) == bool(rule.where or rule.ranks), op


def test_saturation_is_stated_for_every_kind_of_kernel() -> None:
    saturation = load_target("ort-x86-avx2").saturation
    assert saturation is not None
    assert tuple(saturation.pairing) == KINDS
    assert set(saturation.pairing.values()) <= set(PAIRINGS)
    saturating = {kind for kind, pairing in saturation.pairing.items() if pairing != "none"}
    assert set(saturation.alternative_cost) == saturating


def test_an_unknown_target_names_the_nearest_and_all() -> None:
    error = refusal("ort-x86-avx")
    assert error.code is Code.UNKNOWN_TARGET
    assert error.message == "there is no target 'ort-x86-avx'"
    assert error.hint is not None
    assert error.hint.startswith("did you mean ort-x86-avx2? ")
    assert all(name in error.hint for name in NAMES)


@pytest.mark.parametrize("name", ["", "_onnxruntime-cpu", "../ort-arm64", "ORT-ARM64"])
def test_what_is_no_target_is_refused(name: str) -> None:
    assert refusal(name).code is Code.UNKNOWN_TARGET


def test_a_file_of_ones_own_says_only_what_differs(tmp_path: Path) -> None:
    file = tmp_path / "my chip ü.toml"
    file.write_text(
        'schema = 1\nbase = "ort-x86-avx2"\nname = "mine"\ntitle = "Mine"\n'
        'features = []\n[ops.Conv]\nper_channel = false\n[saturation.pairing]\nconv = "any"\n',
        encoding="utf-8",
    )
    base, mine = load_target("ort-x86-avx2"), load_target(file)
    assert (mine.name, mine.features) == ("mine", ())
    assert not mine.ops["Conv"].per_channel
    assert mine.ops["Conv"].kernels == base.ops["Conv"].kernels
    assert mine.ops["Gemm"] == base.ops["Gemm"]
    assert mine.saturation is not None
    assert mine.saturation.pairing["conv"] == "any"
    assert mine.saturation.pairing["gemm"] == "neighbours"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        (None, Code.UNKNOWN_TARGET, "No such file"),
        ("schema = ", Code.BAD_TARGET_FILE, "no TOML"),
        ('schema = 1\nbase = "nothing"', Code.BAD_TARGET_FILE, "base 'nothing' does not exist"),
        ("schema = 1", Code.BAD_TARGET_FILE, "is missing"),
    ],
    ids=["missing", "broken", "no base", "empty"],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str | None, code: Code, says: str) -> None:
    file = tmp_path / "chip.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    error = refusal(file)
    assert error.code is code
    assert str(file) in error.message
    assert says in error.message


def test_a_folder_is_no_target_file(tmp_path: Path) -> None:
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    assert refusal(folder).code is Code.UNKNOWN_TARGET


def test_loading_targets_imports_nothing_heavy() -> None:
    code = (
        "import sys; from qcompile.targets import catalog, host\n"
        "[catalog.load_target(n) for n in catalog.target_names()]; host.host_target()\n"
        "heavy = {'numpy', 'onnx', 'onnx_ir', 'onnxruntime'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
