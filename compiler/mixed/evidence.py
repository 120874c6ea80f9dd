"""What the foremost layers would cost as float: in points, bytes and milliseconds."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from qcompile.compiler.mixed.cost import SECONDS_A_MODEL
from qcompile.compiler.mixed.gates import Gates
from qcompile.compiler.mixed.records import Setting
from qcompile.compiler.progress import Progress
from qcompile.compiler.report.latency import Latency
from qcompile.compiler.report.mixed import FloatCost, LayerSensitivity
from qcompile.core.plan import QuantPlan

SHOWN: Final = 5
"""Layers whose cost as float is worked out in bytes, points and milliseconds."""


def counterfactuals(
    setting: Setting,
    gates: Gates,
    plan: QuantPlan,
    rows: Sequence[LayerSensitivity],
    one_float: Callable[[str], QuantPlan],
    progress: Progress,
) -> tuple[list[LayerSensitivity], tuple[FloatCost, ...]]:
    """Work out what the layers that gain most cost as float, as many as there is time for.

    Args:
        setting: makes and times artefacts.
        gates: judges plans, and has the pace.
        plan: the plan in which they are integer.
        rows: the layers by falling gain.
        one_float: the plan with one layer float.
        progress: told of the stage.

    Returns:
        All rows, those that were worked out completed; and what a clock said.
    """
    told, pace, made = list(rows), gates.pace, setting.artefacts[0]
    shown = [index for index, row in enumerate(rows) if row.gained_db > 0][:SHOWN]
    if not shown or not pace.fits("layer as float"):
        return told, ()
    with progress.stage("what layers cost as float", len(shown)) as counter:
        before, size = gates.drop(plan).points, made.size(plan)
        plans = {"integer": plan}
        for index in shown:
            if not pace.fits("layer as float"):
                break
            with pace.trial("layer as float"):
                one = plans[rows[index].node] = one_float(rows[index].node)
                points = before - gates.drop(one).points
                told[index] = replace(rows[index], points=points, bytes=made.size(one) - size)
            counter.advance()
        pace.expect("time a model", SECONDS_A_MODEL)
        if setting.timed is None or len(plans) == 1 or not pace.fits("time a model", len(plans)):
            return told, ()
        return told, _costs(made.times(plans, setting.timed, floats=False))


def _costs(found: Latency) -> tuple[FloatCost, ...]:
    """Milliseconds over the first model, from the ratios of medians and their intervals."""
    base = found.timings[0].median_ms
    return tuple(
        FloatCost(
            node=ratio.name,
            ms=base * (ratio.value - 1),
            low=base * (ratio.low - 1),
            high=base * (ratio.high - 1),
        )
        for ratio in found.ratios
    )
