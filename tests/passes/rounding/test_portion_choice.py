"""The way that leaves least on rows that took no part; too few rows leave nearest codes."""

import numpy as np
import pytest

from qcompile.passes.rounding.group_gptq import Grid
from qcompile.passes.rounding.portion_choice import (
    ROWS_AN_INPUT,
    Evidence,
    PortionChoice,
    choose_portion,
    effective,
)
from qcompile.passes.rounding.portions import Seen

DEPTH = 48
GRID = Grid(3, 16)


def _inputs(rows: int, seed: int, outlier: float = 1.0) -> np.ndarray:
    random = np.random.default_rng(1)
    mixing = random.standard_normal((DEPTH, DEPTH)) / 4 + np.eye(DEPTH)
    mixing[:, 7] *= outlier
    return np.random.default_rng(seed).standard_normal((rows, DEPTH)) @ mixing


def _seen(x: np.ndarray, y: np.ndarray | None = None) -> Seen:
    made = x if y is None else y
    drift = None if y is None else (made.T @ (x - made) / len(x)).astype(np.float32)
    return Seen((made.T @ made / len(x)).astype(np.float32), drift, len(x))


def _weights() -> list[np.ndarray]:
    random = np.random.default_rng(4)
    return [random.standard_normal((DEPTH, n)).astype(np.float32) for n in (20, 12)]


def _chosen(fit: Seen, held: Seen, factors: np.ndarray | None = None, **more: int) -> PortionChoice:
    weights = _weights()
    return choose_portion(
        weights, [GRID] * 2, Evidence(fit, held), factors, sweeps=more.get("sweeps", 2)
    )


def test_gptq_where_rows_suffice() -> None:
    choice = _chosen(_seen(_inputs(2000, 2)), _seen(_inputs(500, 3)))
    for layer in choice.layers:
        assert layer.method == "gptq"
        assert layer.errors["gptq"] < 0.8 * layer.errors["nearest"]
    assert choice.factors is None


def test_too_few_rows_leave_nearest_codes() -> None:
    few = _seen(_inputs(ROWS_AN_INPUT * DEPTH - 1, 2))
    choice = _chosen(few, _seen(_inputs(500, 3)))
    assert [layer.method for layer in choice.layers] == ["nearest", "nearest"]
    assert not Evidence(few, few).suffices


def test_what_only_looked_better_is_not_taken() -> None:
    """Rounded for inputs that those who judge do not have."""
    other = np.random.default_rng(8).standard_normal((500, DEPTH))
    strange = _inputs(2000, 2)
    strange[:, ::2] *= 30
    choice = _chosen(_seen(strange), _seen(other))
    assert all(layer.method == "nearest" for layer in choice.layers)


def test_factors_are_kept_where_they_help() -> None:
    """One channel carries forty times what the others do."""
    fit, held = _seen(_inputs(2000, 2, 40.0)), _seen(_inputs(500, 3, 40.0))
    factors = np.ones(DEPTH, np.float32)
    factors[7] = 4.0
    with_them = _chosen(fit, held, factors)
    assert with_them.factors is factors
    assert with_them.error < _chosen(fit, held).error
    senseless = np.exp(np.random.default_rng(6).standard_normal(DEPTH) * 2).astype(np.float32)
    assert _chosen(_seen(_inputs(2000, 2)), _seen(_inputs(500, 3)), senseless).factors is None


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_drift_is_made_good_for(factor: float) -> None:
    """Inputs that were scaled and turned by what came before: the float output is the aim."""
    random = np.random.default_rng(12)
    turn = np.eye(DEPTH) + 0.05 * random.standard_normal((DEPTH, DEPTH))
    x, other = _inputs(3000, 2), _inputs(600, 3)
    fit, held = _seen(x, x @ turn), _seen(other, other @ turn)
    factors = None if factor == 1.0 else np.full(DEPTH, factor, np.float32)
    weights = _weights()
    aware = choose_portion(weights, [GRID] * 2, Evidence(fit, held), factors, sweeps=2)
    blind = choose_portion(
        weights,
        [GRID] * 2,
        Evidence(Seen(fit.gram, None, fit.rows), Seen(held.gram, None, held.rows)),
        factors,
        sweeps=2,
    )

    def error(choice: PortionChoice) -> float:
        made = [effective(layer, GRID, choice.factors) for layer in choice.layers]
        return sum(
            float(np.mean((other @ w - other @ turn @ m) ** 2))
            for w, m in zip(weights, made, strict=True)
        )

    assert error(aware) < 0.7 * error(blind)


def test_parts_and_threads_change_nothing() -> None:
    """Wider than one part of columns."""
    random = np.random.default_rng(4)
    weight = [random.standard_normal((DEPTH, 1030)).astype(np.float32)]
    seen = Evidence(_seen(_inputs(2000, 2)), _seen(_inputs(500, 3)))
    one, two = (
        choose_portion(weight, [GRID], seen, None, sweeps=1, threads=t).layers[0].rounded
        for t in (1, 2)
    )
    assert one.codes.shape == (DEPTH, 1030)
    assert np.array_equal(one.codes, two.codes)
    assert np.array_equal(one.params.scale, two.params.scale)
