"""``--emit``: which forms a target has, and that they are written with the rest or not at all."""

from pathlib import Path

import pytest

import qcompile
from qcompile.compiler.emit import emitted, forms_of, suffixes_of
from qcompile.core.accelerator import Offload
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.catalog import load_target
from tests.compiler.small import cnn, pictures, saved

MICRO, ORT, QNN = (load_target(n) for n in ("tflite-micro", "ort-arm64", "ort-qnn-htp"))


def test_forms_are_those_the_targets_have() -> None:
    assert forms_of(None, [ORT]) == ()
    assert forms_of(["c", "c"], [MICRO, load_target("tflite-arm64")]) == ("c",)
    assert forms_of(["context"], [QNN]) == ("context",)
    assert suffixes_of(["c", "context"]) == (".c", ".h", ".context.onnx")
    assert forms_of(["genai"], [ORT]) == ("genai",)
    wrong = (("c", [MICRO, ORT]), ("context", [MICRO]), ("elf", [MICRO]), ("genai", [QNN]))
    for form, targets in (*wrong, ("genai", [ORT, load_target("ort-x86-avx2")])):
        with pytest.raises(QCompileError) as caught:
            forms_of([form], targets)
        assert caught.value.code == Code.BAD_OPTION


def test_the_arena_stands_in_the_header_where_it_is_known() -> None:
    offload = Offload(
        to="integer kernels",
        nodes=1,
        on=1,
        partitions=1,
        islands=0,
        estimates={"arena_bytes": 96.0},
    )
    files = emitted(("c",), b"model", MICRO, "a b.tflite", offload)
    assert sorted(files) == [".c", ".h"]
    assert b"A_B_MODEL_ARENA_SIZE 96u" in files[".h"]
    assert b"ARENA" not in emitted(("c",), b"model", MICRO, "a b.tflite", None)[".h"]


@pytest.mark.litert
def test_c_source_is_written_beside_the_artefact(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    data = {"x": pictures(16)}
    out = tmp_path / "out.tflite"
    qcompile.build(
        model, target="tflite-micro", data=data, out=out, effort="fast", latency=False, emit=["c"]
    )
    source = (tmp_path / "out.tflite.c").read_text()
    listed = source.partition(" = {\n")[2].partition("}")[0].replace(",", " ").split()
    assert bytes(int(word, 16) for word in listed) == out.read_bytes()
    assert "out_model[OUT_MODEL_SIZE]" in (tmp_path / "out.tflite.h").read_text()


@pytest.mark.qnn
def test_a_context_is_written_beside_the_artefact(tmp_path: Path) -> None:
    model = saved(cnn(), tmp_path)
    data = {"x": pictures(16)}
    out = tmp_path / "out.onnx"
    built = qcompile.build(
        model, target="ort-qnn-htp", data=data, out=out, effort="fast", emit=["context"]
    )
    assert b"EPContext" in (tmp_path / "out.onnx.context.onnx").read_bytes()
    offload = built.report.offload
    assert offload is not None
    assert (offload.to, offload.off, offload.on) == ("HTP", (), offload.nodes)
