"""Vela as a process: what it gives back, what it leaves, and how it fails."""

import re
import tempfile
from pathlib import Path

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.accelerators import accelerator_tool
from qcompile.targets.catalog import load_target
from qcompile.targets.ethos_u import vela
from qcompile.targets.ethos_u.vela import Vela
from tests.targets.ethos_u.models import ALL, LEAVES, U55, U85, before_vela, target


def refusal(code: Code, data: bytes, name: str = U55, timeout: float = 60, **options: str) -> str:
    with pytest.raises(QCompileError) as caught:
        Vela(timeout).accelerate(data, target(name, **options))
    assert caught.value.code is code
    return str(caught.value)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go; a test looks whether any stayed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_target_names_the_tool() -> None:
    accelerator = load_target(U55).accelerator
    assert accelerator is not None
    assert isinstance(accelerator_tool(accelerator.tool), Vela)


@pytest.mark.litert
@pytest.mark.ethos_u
@pytest.mark.parametrize("name", ALL)
def test_a_model_that_it_takes_whole(name: str, scratch: Path) -> None:
    from qcompile.targets.tflite.reading import read_graph

    source = before_vela()
    made = Vela().accelerate(source, load_target(name))
    graph = read_graph(made.data)
    assert [operator.name for operator in graph.operators] == ["custom:ethos-u"]
    assert graph.metadata["qcompile.target"] == b"tflite-micro", "what the file says stays"
    offload = made.offload
    assert offload.to.lower().replace("-", "") == name.removeprefix("tflite-").replace("-", "")
    assert offload.on == offload.nodes == len(read_graph(source).operators)
    assert (offload.partitions, offload.islands, offload.off) == (1, 0, ())
    assert offload.estimates["cycles"] >= offload.estimates["npu_cycles"] > 0
    assert offload.estimates["inferences_per_second"] > 0
    assert offload.estimates["sram_bytes"] > 0
    assert re.fullmatch(r"Vela \d+\.\d+\.\d+", offload.source)
    assert "nothing was run" in offload.estimated
    assert list(scratch.iterdir()) == []


@pytest.mark.litert
@pytest.mark.ethos_u
@pytest.mark.parametrize("name", ALL)
def test_what_it_leaves_is_told_in_its_own_words(name: str) -> None:
    offload = Vela().accelerate(before_vela(LEAVES), load_target(name)).offload
    (off,) = offload.off
    assert (off.name, off.op, off.reason) == ("b", "LOG_SOFTMAX", "Unsupported opType")
    assert offload.on == offload.nodes - 1
    assert (offload.partitions, offload.islands) == (2, 1)
    assert "what runs on the processor is not in them" in offload.estimated


@pytest.mark.litert
@pytest.mark.ethos_u
@pytest.mark.parametrize("name", [U55, U85])
def test_equal_models_give_equal_bytes(name: str) -> None:
    first, second = (Vela().accelerate(before_vela(LEAVES), load_target(name)) for _ in range(2))
    assert first == second


@pytest.mark.litert
@pytest.mark.ethos_u
def test_its_options_are_passed_on(tmp_path: Path) -> None:
    usual = Vela().accelerate(before_vela(), load_target(U55)).offload
    other = Vela().accelerate(before_vela(), target(U55, accelerator_config="ethos-u55-32"))
    assert other.offload.to == "Ethos-U55-32"
    assert other.offload.estimates["npu_cycles"] > usual.estimates["npu_cycles"]


@pytest.mark.litert
@pytest.mark.ethos_u
def test_a_configuration_of_the_user_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.resources import files

    text = (files("ethosu") / "config_files" / "Arm" / "vela.ini").read_text()
    (tmp_path / "mine.ini").write_text(text.replace("Ethos_U55_High_End_Embedded", "Mine"))
    monkeypatch.chdir(tmp_path)
    made = Vela().accelerate(before_vela(), target(U55, config="mine.ini", system_config="Mine"))
    assert "for Mine, Shared_Sram" in made.offload.estimated


@pytest.mark.litert
@pytest.mark.ethos_u
def test_its_last_words_stand_in_the_error(scratch: Path) -> None:
    text = refusal(Code.ACCELERATOR_REFUSED, before_vela(), system_config="Nope")
    assert "System_Config.Nope not found" in text
    assert list(scratch.iterdir()) == []


@pytest.mark.litert
@pytest.mark.ethos_u
def test_a_crash_is_an_error_with_a_code(scratch: Path) -> None:
    """Of a damaged file Vela 5.2 dies by a signal."""
    text = refusal(Code.ACCELERATOR_REFUSED, before_vela()[:1000])
    assert "crashed (signal" in text or "ended with" in text
    assert list(scratch.iterdir()) == []


@pytest.mark.ethos_u
def test_one_that_does_not_end_is_stopped(scratch: Path) -> None:
    text = refusal(Code.ACCELERATOR_REFUSED, b"", timeout=0.001)
    assert "did not end within" in text
    assert list(scratch.iterdir()) == []


def test_without_vela_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vela, "find_spec", lambda name: None)
    text = refusal(Code.MISSING_EXTRA, b"")
    assert U55 in text
    assert "pip install 'qcompile-edge[ethos-u]'" in text
