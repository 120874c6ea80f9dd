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


def test_nobody_has_measured_it() -> None:
    assert costs_of("ort-arm64") is None


def test_between_points_and_beyond() -> None:
    curve = Curve((10.0, 1000.0), (1.0, 100.0), (4.0, 4.0))
    assert curve.at(100.0) == pytest.approx((10.0, 4.0))
    assert curve.at(1.0) == pytest.approx((1.0, 4.0))
    assert curve.at(2000.0) == pytest.approx((200.0, 8.0))
    assert ROUGH.at("anything", 1e6) == ROUGH.at("conv", 1e6)
    assert ROUGH.at(BORDER, 0)[0] == 0.0


CURVE = {"work": [1, 2], "float_us": [1, 2], "integer_us": [1, 2]}
GOOD = {"target": "t", "evidence": "e", "kinds": {OTHER: CURVE, BORDER: CURVE}}


@pytest.mark.parametrize(
    "kinds",
    [
        {OTHER: CURVE},
        {OTHER: CURVE, BORDER: {**CURVE, "work": [2, 1]}},
        {OTHER: CURVE, BORDER: {**CURVE, "work": [0, 1]}},
        {OTHER: CURVE, BORDER: {**CURVE, "float_us": [1]}},
        {OTHER: CURVE, BORDER: {**CURVE, "float_us": [1, -1]}},
        {OTHER: CURVE, BORDER: {"work": [1, 2]}},
        {OTHER: CURVE, BORDER: {**CURVE, "work": []}},
    ],
)
def test_what_is_no_table(kinds: object) -> None:
    assert read_costs(GOOD).at(OTHER, 1) == (1.0, 1.0)
    with pytest.raises((ValueError, KeyError)):
        read_costs({**GOOD, "kinds": kinds})


def test_a_file_that_is_none_has_a_code(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "x.toml").write_text("target =")
    monkeypatch.setattr(cost_table, "files", lambda _: folder)
    with pytest.raises(QCompileError, match="costs of x"):
        costs_of("x")
