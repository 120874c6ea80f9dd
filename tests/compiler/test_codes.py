"""``--weights codebook`` and ``pow2`` from the argument to the file, and what is refused."""

from pathlib import Path

import onnx
import pytest

from qcompile.core.errors import Code, QCompileError
from tests.compiler import small

TARGET = "ort-x86-vnni"


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    body = """net (float["N", 8, 8, 8] x) => (float["N", 40] y) {
        c = Conv (x, w)
        a = GlobalAveragePool (c)
        f = Flatten (a)
        y = MatMul (f, v)
    }"""
    arrays = {"w": small.weights(1, 32, 8, 5, 5), "v": small.weights(2, 32, 40)}
    return small.saved(small.text_model(body, arrays), tmp_path)


@pytest.mark.parametrize(
    ("asked", "code", "said"),
    [
        ({"scheme": "w8a8"}, Code.BAD_OPTION, "computes with its weights"),
        ({"scheme": "w1.58"}, Code.BAD_OPTION, "signs need no table"),
        ({"scheme": "w4", "granularity": "group:32"}, Code.BAD_OPTION, "a tensor or a channel"),
        ({"scheme": "w8", "weights": "pow2"}, Code.BAD_OPTION, "more exponents"),
        ({"scheme": "w4", "symmetry": "symmetric"}, Code.BAD_OPTION, "no zero points"),
        ({"scheme": "w4", "bits_per_weight": 4.5}, Code.BAD_OPTION, "no widths to mix"),
        ({"scheme": "w4", "weights": "huffman"}, Code.BAD_OPTION, "is not known"),
        ({"scheme": "w4", "target": "tflite-arm64"}, Code.SCHEME_UNSUPPORTED, "through a table"),
    ],
)
def test_what_is_refused(wide: Path, asked: dict, code: Code, said: str) -> None:
    with pytest.raises(QCompileError, match=said) as caught:
        small.built(wide, **{"target": TARGET, "weights": "codebook", **asked})
    assert caught.value.code is code


@pytest.mark.parametrize("form", ["codebook", "pow2"])
def test_a_build_and_its_plan(wide: Path, tmp_path: Path, form: str) -> None:
    out = tmp_path / "out.onnx"
    first = small.built(wide, target=TARGET, scheme="w4", weights=form, out=out)
    kept = out.read_bytes()
    assert {n.op_type for n in onnx.load(out).graph.node} >= {"Conv", "MatMul", "Gather"}
    (told,) = (str(n) for n in first.report.notes if "way to store" in str(n))
    assert "takes the time and memory of the float model" in told
    plan = out.with_name("out.onnx.plan.json")
    again = small.built(wide, target=TARGET, plan=plan, out=tmp_path / "again.onnx")
    assert again.artefact == kept
    with pytest.raises(QCompileError) as caught:
        small.built(wide, target=TARGET, plan=plan, weights="int")
    assert caught.value.code is Code.PLAN_MISMATCH
