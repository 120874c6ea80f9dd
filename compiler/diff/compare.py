"""What differs between two files by themselves, before anything is run."""

from collections.abc import Mapping

import numpy as np

from qcompile.compiler.diff.side import Grid, NodeInfo, Side
from qcompile.compiler.report.diff_model import (
    CountDifference,
    GridDifference,
    GridInfo,
    NodeDifference,
)
from qcompile.core.plan import QuantPlan


def count_differences(
    first: Mapping[str, int], second: Mapping[str, int]
) -> tuple[CountDifference, ...]:
    """Names whose numbers are not the same, by name."""
    return tuple(
        CountDifference(name=name, first=first.get(name, 0), second=second.get(name, 0))
        for name in sorted({*first, *second})
        if first.get(name, 0) != second.get(name, 0)
    )


def operator_differences(first: Side, second: Side) -> tuple[CountDifference, ...]:
    """Operators of the files, where both have the same set of operators to choose from."""
    if first.format != second.format:
        return ()
    return count_differences(first.operators, second.operators)


def node_differences(first: Side, second: Side) -> tuple[tuple[NodeDifference, ...], int]:
    """Nodes that become something else, in the first's order, and how many become the same.

    Of a float model without a plan every node is float. Where only one side has nodes by the user's
    names (a TFLite file without a plan has none), nothing is compared.
    """
    ours, theirs = _nodes(first, second), _nodes(second, first)
    if not set(ours) & set(theirs):
        return (), 0
    found, same = [], 0
    for name in dict.fromkeys((*ours, *theirs)):
        a, b = ours.get(name), theirs.get(name)
        if a is not None and b is not None and _is_same(a, b):
            same += 1
            continue
        known = a or b
        assert known is not None
        found.append(
            NodeDifference(
                node=name,
                op=known.op,
                first=a.mode if a else "",
                second=b.mode if b else "",
                first_reason=a.reason if a else "",
                second_reason=b.reason if b else "",
            )
        )
    return tuple(found), same


def _is_same(a: NodeInfo, b: NodeInfo) -> bool:
    return a.mode == b.mode


def _nodes(side: Side, other: Side) -> Mapping[str, NodeInfo]:
    """The nodes of a side that the other one can have.

    Beside a plan, which speaks of the prepared graph, only nodes that it knows count; and of those
    that it absorbed a file without a plan has none.
    """
    if side.plan is None and other.plan is not None:
        return {name: info for name, info in side.nodes.items() if name in other.nodes}
    if side.plan is not None and other.plan is None:
        return {
            name: info
            for name, info in side.nodes.items()
            if info.mode != "absorbed" or name in other.nodes
        }
    return side.nodes


def grid_differences(first: Side, second: Side) -> tuple[tuple[GridDifference, ...], int, int]:
    """Values whose numbers are stored on other grids, in the first's order.

    Returns:
        The differences, how many values have the same grid in both, and how many of those have it
        in another type. When one side quantizes nothing there is nothing to compare.
    """
    if not first.grids or not second.grids:
        return (), 0, 0
    found, same, retyped = [], 0, 0
    for name in dict.fromkeys((*first.grids, *second.grids)):
        a, b = first.grids.get(name), second.grids.get(name)
        if a is not None and b is not None and a.is_same(b):
            same += 1
            retyped += a.dtype != b.dtype
            continue
        role = (a or b).role if (a or b) is not None else "activation"  # type: ignore[union-attr]
        found.append(
            GridDifference(
                value=name,
                role=role,
                first=_info(name, a, first.plan),
                second=_info(name, b, second.plan),
                ratio=_ratio(a, b),
            )
        )
    return tuple(found), same, retyped


def _info(name: str, grid: Grid | None, plan: QuantPlan | None) -> GridInfo | None:
    if grid is None:
        return None
    entry = plan.values.get(name) if plan is not None else None
    return GridInfo(
        dtype=grid.dtype,
        scales=grid.params.scale.size,
        scale=float(grid.params.scale.max(initial=0.0)),
        zero_point=int(grid.params.zero_point.reshape(-1)[0]),
        rule=entry.rule if entry is not None else "",
        reason=entry.reason if entry is not None else "",
    )


def _ratio(a: Grid | None, b: Grid | None) -> float | None:
    """Median of second over first; vectors of different lengths are compared by their medians."""
    if a is None or b is None:
        return None
    ours, theirs = a.params.scale.reshape(-1), b.params.scale.reshape(-1)
    if 1 in (ours.size, theirs.size) or ours.size == theirs.size:
        return float(np.median(theirs.astype(np.float64) / ours))
    return float(np.median(theirs) / np.median(ours))


def changed_arrays(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Names whose arrays are not the same in both; one that is missing differs."""
    return tuple(
        name
        for name in sorted({*first, *second})
        if name not in first or name not in second or not np.array_equal(first[name], second[name])
    )


def changed_constants(first: Side, second: Side) -> tuple[str, ...]:
    """Constants of the same name whose numbers are not the same, in the first's order.

    Of two formats nothing is said: TFLite stores weights in another order.
    """
    if first.format != second.format:
        return ()
    if first.info.sha256 == second.info.sha256 and not first.has_external_data:
        return ()
    return tuple(
        name
        for name, array in first.constants.items()
        if name in second.constants and not np.array_equal(array(), second.constants[name]())
    )
