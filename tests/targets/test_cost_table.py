"""Tables of costs: read between their points, complete, and each says where it comes from."""

from importlib.resources import files

import pytest

from qcompile.core.errors import QCompileError
from qcompile.targets import cost_table
from qcompile.targets.catalog import target_names
from qcompile.targets.cost_table import BORDER, OTHER, ROUGH, Curve, costs_of, read_costs

SHIPPED = sorted(
    file.name.removesuffix(".toml")
    for file in files("qcompile.targets.costs").iterdir()
    if file.name.endswith(".toml")
)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_table(name: str) -> None:
    assert name in target_names()
    table = costs_of(name)
    assert table is not None
    assert table.target == name
    assert "easured" in table.evidence or "tests.benchmarks.costs" in table.evidence
    assert {"conv", "pointwise", "depthwise", "gemv", "gemm", "add", BORDER, OTHER} <= set(
        table.kinds
    )
    for kind in table.kinds:
        floats, integers = table.at(kind, 1e5)
        assert integers > 0
        assert floats > 0 or kind == BORDER


def test_what_is_measured_on_vnni_says() -> None:
    table = costs_of("ort-x86-vnni")
    assert table is not None
    floats, integers = table.at("conv", 1e8)
    assert integers < 0.5 * floats
    floats, integers = table.at("depthwise", 1e5)
    assert integers > floats


@pytest.mark.parametrize("name", ["ort-arm64", "tflite-arm64"])
def test_what_was_counted_under_emulation_is_no_time(name: str) -> None:
    table = costs_of(name)
    assert table is not None
    assert table.unit == "instructions (emulated)"
    assert not table.is_time
    assert "--device qemu:" in table.evidence
    floats, integers = table.at("conv", 1e7)
    assert integers < floats
    assert floats > 1e5, "instructions, not microseconds"


def test_what_was_timed_says_so() -> None:
    for name in ("ort-x86-vnni", "ort-x86-avx2", "tflite-x86"):
        table = costs_of(name)
        assert table is not None
        assert table.is_time


def test_nobody_has_measured_it() -> None:
    assert costs_of("ort-qnn-htp") is None


def test_between_points_and_beyond() -> None:
    curve = Curve((10.0, 1000.0), (1.0, 100.0), (4.0, 4.0))
    assert curve.at(100.0) == pytest.approx((10.0, 4.0))
    assert curve.at(1.0) == pytest.approx((1.0, 4.0))
    assert curve.at(2000.0) == pytest.approx((200.0, 8.0))
    assert ROUGH.at("anything", 1e6) == ROUGH.at("conv", 1e6)
    assert ROUGH.at(BORDER, 0)[0] == 0.0


def test_a_kind_that_is_missing_has_the_cost_of_its_family() -> None:
    curves = {
        name: Curve((1.0,), (float(n),), (float(n),))
        for n, name in enumerate((BORDER, OTHER, "gemv"))
    }
    table = cost_table.CostTable("t", "made up", curves)
    assert table.at("gemv-widening", 1.0) == table.at("gemv", 1.0) == (2.0, 2.0)
    assert table.at("conv-widening", 1.0) == table.at(OTHER, 1.0) == (1.0, 1.0)


CURVE = {"work": [1, 2], "float": [1, 2], "integer": [1, 2]}
GOOD = {
    "target": "t",
    "unit": "microseconds",
    "evidence": "e",
    "kinds": {OTHER: CURVE, BORDER: CURVE},
}


@pytest.mark.parametrize(
    "kinds",
    [
        {OTHER: CURVE},
        {OTHER: CURVE, BORDER: {**CURVE, "work": [2, 1]}},
        {OTHER: CURVE, BORDER: {**CURVE, "work": [0, 1]}},
        {OTHER: CURVE, BORDER: {**CURVE, "float": [1]}},
        {OTHER: CURVE, BORDER: {**CURVE, "float": [1, -1]}},
        {OTHER: CURVE, BORDER: {"work": [1, 2]}},
        {OTHER: CURVE, BORDER: {**CURVE, "work": []}},
    ],
)
def test_what_is_no_table(kinds: object) -> None:
    assert read_costs(GOOD).at(OTHER, 1) == (1.0, 1.0)
    with pytest.raises((ValueError, KeyError)):
        read_costs({**GOOD, "kinds": kinds})


def test_a_unit_that_is_none() -> None:
    assert read_costs({**GOOD, "unit": "instructions (emulated)"}).unit != read_costs(GOOD).unit
    with pytest.raises(ValueError, match="unit must be one of microseconds, instructions"):
        read_costs({**GOOD, "unit": "milliseconds"})
    with pytest.raises(KeyError):
        read_costs({key: value for key, value in GOOD.items() if key != "unit"})


def test_a_file_that_is_none_has_a_code(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "x.toml").write_text("target =")
    monkeypatch.setattr(cost_table, "files", lambda _: folder)
    with pytest.raises(QCompileError, match="costs of x"):
        costs_of("x")
