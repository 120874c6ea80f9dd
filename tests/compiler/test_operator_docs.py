"""The operator tables in docs/targets are those of the target files, and Markdown holds them."""

import pytest

from qcompile.compiler.operator_docs import COMMAND, FOLDER, documents, markdown
from qcompile.compiler.report.operators import conditions, operator_page
from qcompile.compiler.report.page import Page, Remark, Table
from qcompile.core.target import FixedOutput, OpRule, ScaleRatio
from qcompile.targets.catalog import load_target, target_names


def test_the_documents_are_not_stale() -> None:
    kept = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert kept == documents(), f"run: {COMMAND}"


@pytest.mark.parametrize("name", target_names())
def test_every_op_stands_in_the_page_once(name: str) -> None:
    target = load_target(name)
    tables = {table.title: table for table in operator_page(target).tables}
    assert [row[0] for row in tables["Integer"].rows] == sorted(target.ops)
    floats = tables["Float"].rows if target.float_ops else ()
    assert dict(floats) == target.float_ops
    leaving = {op for op, rule in target.ops.items() if rule.leaves}
    off = tables.get("Integer, but off the NPU", Table("", (), ()))
    assert {row[0] for row in off.rows} == leaving


def test_types_are_those_of_the_schemes() -> None:
    rows = {row[0]: row for row in operator_page(load_target("tflite-arm64")).tables[0].rows}
    assert rows["Conv"][1].startswith("int8 * int8; int16 * int8")
    assert rows["Gelu"][1] == "int8", "there is no int16 GELU that is right"
    assert "float * int8 as it runs (FULLY_CONNECTED)" in rows["Gemm"][1]
    rows = {row[0]: row for row in operator_page(load_target("ort-x86-avx2")).tables[0].rows}
    assert rows["Conv"][1] == "uint8 * int8 or uint8"
    assert rows["Conv"][2:4] == ("channel, tensor", "Relu, Clip")
    assert rows["Add"][2] == "-"


def test_conditions_in_words() -> None:
    rule = OpRule(
        kernels=("K",),
        where={"mode": ("nearest", "linear")},
        ranks=(4,),
        outputs="all",
        same_parameters=True,
        fixed_output=FixedOutput(0.5, -128),
        scale_ratio=ScaleRatio("each", 0.25, 128.0),
        constants=True,
        table=True,
        most_inputs=5,
    )
    assert conditions(rule) == [
        "mode nearest or linear",
        "rank 4",
        "every output is read and quantized",
        "same parameters in and out",
        "output scale 0.5, zero point -128",
        "each input scale over the output's from 0.25 to below 128",
        "an input may be constant",
        "rows of a constant table in integers",
        "up to 5 inputs at once",
    ]
    assert conditions(OpRule()) == []


def test_markdown_takes_nothing_for_markup() -> None:
    table = Table("T", ("a", "b"), (("x * y_z", "p|q\nr"),))
    text = markdown(Page("P", (("f", "<b>"),), (table,), (Remark("info", "end"),)))
    assert "| x \\* y\\_z | p\\|q r |" in text
    assert "- f: &lt;b>" in text
    assert text.startswith("# P\n")
    assert text.endswith("\nend\n")
