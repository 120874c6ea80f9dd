"""What is said of a file: a float model is planned, an artefact of any kind is read as it runs."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.api import inspect
from qcompile.compiler.report.model import Coverage
from qcompile.core.backend import TARGET_KEY
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.host import host_target
from qcompile.targets.onnxruntime.prove import optimized_graph
from tests.compiler import small


def shares(coverage: Coverage | None) -> dict[str, tuple[int, int]]:
    assert coverage is not None
    return {row.op: (row.integer, row.float) for row in coverage.ops}


def test_a_float_model_is_planned_for_the_target() -> None:
    report = inspect(small.DIGITS / "digits.onnx", target="ort-arm64")
    assert report.target == "ort-arm64"
    assert shares(report.coverage)["Conv"] == (4, 0)
    assert dict(report.weight_types).keys() >= {"float32"}
    assert report.parameters > 30_000
    assert report.model.name == "digits.onnx"
    ops = dict(report.op_counts)
    assert ops["Conv"] == 4
    assert list(ops.values()) == sorted(ops.values(), reverse=True)


def test_without_a_target_it_is_this_machines() -> None:
    assert inspect(small.DIGITS / "digits.onnx").target == host_target()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspect")
    for scheme in ("w8a8", "w8a8-dynamic", "float"):
        small.digits(scheme=scheme, out=folder / f"{scheme}.onnx", target="ort-arm64")
    small.digits(ends="uint8", out=folder / "ends.onnx")
    return folder


def test_a_static_artefact(folder: Path) -> None:
    report = inspect(folder / "w8a8.onnx")
    assert report.target == "ort-arm64", "what it says it was made for"
    found = shares(report.coverage)
    assert found["QLinearConv"] == (4, 0)
    assert all(floats == 0 for _, floats in found.values())
    assert report.producer == "qcompile"
    assert {"int8", "int32"} <= dict(report.weight_types).keys()
    assert inspect(folder / "w8a8.onnx", target="ort-x86-vnni").target == "ort-x86-vnni"


def test_a_dynamic_artefact(folder: Path) -> None:
    found = shares(inspect(folder / "w8a8-dynamic.onnx").coverage)
    assert found["DynamicQuantizeMatMul"] == (1, 0)
    assert found["FusedConv"] == (0, 4)
    assert found["Softmax"] == (0, 1), "it reads the floats that the MatMul gives"


def test_a_float_artefact_is_a_float_model(folder: Path) -> None:
    assert shares(inspect(folder / "float.onnx").coverage)["Conv"] == (4, 0)


def test_integer_ends(folder: Path) -> None:
    report = inspect(folder / "ends.onnx")
    assert [s.dtype for s in report.model.inputs] == ["uint8"]
    assert all(floats == 0 for _, floats in shares(report.coverage).values())


def test_coverage_counts_what_the_runtime_runs(folder: Path) -> None:
    graph = optimized_graph(folder / "w8a8.onnx")
    kept = [n for n in graph.node if n.op_type not in {"QuantizeLinear", "DequantizeLinear"}]
    coverage = inspect(folder / "w8a8.onnx").coverage
    assert coverage is not None
    assert coverage.total == len(kept)


def test_a_model_of_integer_operators(tmp_path: Path) -> None:
    """The form that other tools write: QLinearConv and the like, no DequantizeLinear at all."""
    model = small.text_model(
        """net (uint8[1, 3, 8, 8] x) => (uint8[1, 2, 6, 6] y) {
            c = QLinearConv (x, s, z, w, s, zw, s, z)
            y = MaxPool <kernel_shape = [1, 1]> (c)
        }""",
        {
            "s": np.float32(0.1), "z": np.uint8(3), "zw": np.int8(0),
            "w": np.ones((2, 3, 3, 3), np.int8),
        },
    )  # fmt: skip
    found = shares(inspect(small.saved(model, tmp_path)).coverage)
    assert found == {"QLinearConv": (1, 0), "MaxPool": (1, 0)}


def test_a_model_with_a_branch_is_counted_whole(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <
                then_branch = t () => (float[4] a) { a = Relu (x) },
                else_branch = e () => (float[4] b) { b = Neg (x) }
            >
        }""")
    report = inspect(small.saved(model, tmp_path))
    assert dict(report.op_counts) == {"If": 1, "Relu": 1, "Neg": 1}


def test_an_artefact_that_does_not_load(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (uint8[4, 4] x) => (float[4, 4] y) { y = com.microsoft.QGemm (x) }""")
    with pytest.raises(QCompileError) as caught:
        inspect(small.saved(model, tmp_path))
    assert caught.value.code in {Code.RUNTIME_REFUSED, Code.MODEL_INVALID}


def test_a_name_in_the_notes_that_is_no_target(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(str(folder / "w8a8.onnx"))
    (said,) = [prop for prop in model.metadata_props if prop.key == TARGET_KEY]
    said.value = "no-such-target"
    onnx.save(model, str(tmp_path / "m.onnx"))
    assert inspect(tmp_path / "m.onnx").target == host_target()
