"""A model that is quantized already: its own scales into a plan, and what it lacks completed.

1. What its quantizers say of activations, and the grids on which its constants lie, are encodings
   like those of a file, taken into the plan to the last bit (``importing``).
2. What it does not say and what is exact anyway is derived: equal parameters around operators that
   only move integers, those that a kernel sets, and behind a Relu that was not between quantizers
   the grid of its input, from zero up.
3. All other ranges come from samples. Without any it is an error that names the values.
4. Integers of a bias stay where the scales behind them do, also those that float32 does not hold:
   the difference stands in ``plan.corrections``. Weights lie on their grid, so the nearest integers
   are the ones they had.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.compiler.calibration.collect import collect
from qcompile.compiler.encodings.importing import GivenEncodings
from qcompile.compiler.encodings.record import Encoding, Encodings
from qcompile.compiler.quantizing import quantize
from qcompile.core import graph as g
from qcompile.core.executor import Executor
from qcompile.core.numerics.affine import LIMITS, limits, storage_type
from qcompile.core.plan import QuantParams, QuantPlan, Shared
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target
from qcompile.core.units import Unit, units
from qcompile.passes.plan.activations import observed_values, range_request
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.passes.plan.shared_groups import resolve_shared
from qcompile.passes.prepare.edit import GRID_KEYS
from qcompile.passes.prepare.take_out_qdq import Stated

DERIVED: Final = "derived from the imported"
_CLAMPS: Final = frozenset({"Relu", "Clip"})
_SCALE, _ZERO, _AXIS, _TYPE = GRID_KEYS
_SAME_SCALE: Final = 1e-3
"""How far the scale of a bias in a file may lie from the product that its kernel takes."""
_EXACT: Final = 2**24
"""Integers up to it float32 holds."""


@dataclass(frozen=True, eq=False)
class ModelScales:
    """What a quantized model says of its values, by the names of the canonical graph."""

    given: GivenEncodings
    biases: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Integers of biases that float32 does not hold."""
    kept: Sequence[str] = ()
    """Quantizers that have no form in a plan and stay in the graph, in floats."""


def scales_of(
    model: ir.Model,
    stated: Mapping[str, Stated],
    name: str,
    biases: Mapping[str, np.ndarray],
    kept: Sequence[str] = (),
) -> ModelScales | None:
    """Gather what is known of a prepared model whose quantizers were taken out.

    Args:
        model: the canonical float graph.
        stated: value name -> what its quantizer said.
        name: of the model, for messages.
        biases: integers of wide biases.
        kept: nodes that were left.

    Returns:
        None for a model that does not quantize activations.
    """
    if not stated:
        return None
    found = {value: Encoding(value, one.dtype, one.params) for value, one in sorted(stated.items())}
    for value in model.graph.initializers.values():
        encoding = _grid(value)
        if encoding is not None:
            found.setdefault(encoding.name, encoding)
    return ModelScales(GivenEncodings(Path(name), Encodings(found)), biases, kept)


def wide_biases(model: ir.Model) -> dict[str, np.ndarray]:
    """Integers of int32 constants behind DequantizeLinear that float32 would round, by value."""
    found = {}
    for node in model.graph:
        stored = node.inputs[0] if node.op_type == "DequantizeLinear" else None
        if stored is None or stored.dtype != ir.DataType.INT32:
            continue
        array = g.constant(stored)
        if array is not None and array.size and int(np.abs(array.astype(np.int64)).max()) > _EXACT:
            found[node.outputs[0].name or ""] = array.astype(np.int64)
    return found


def _grid(value: ir.Value) -> Encoding | None:
    """The grid that a constant remembers; biases follow from others."""
    props = value.metadata_props
    dtype = props.get(_TYPE, "").lower()
    if _SCALE not in props or dtype not in LIMITS or dtype == "int32":
        return None
    scale = np.asarray([float(s) for s in props[_SCALE].split(",")], np.float32)
    zero = np.asarray([int(float(z)) for z in props[_ZERO].split(",")], np.int64)
    if not np.all(np.isfinite(scale) & (scale > 0)):
        return None
    axis = int(props[_AXIS]) if scale.size > 1 and _AXIS in props else None
    shape: tuple[int, ...] = () if axis is None else (scale.size,)
    params = QuantParams(scale.reshape(shape), np.broadcast_to(zero, scale.shape).reshape(shape))
    return Encoding(value.name or "", dtype, params, axis, is_parameter=True)


def derive(graph: ir.Graph, plan: QuantPlan, scales: ModelScales) -> None:
    """Set what follows exactly from what the model says (rule 2 above)."""
    for unit in units(graph, plan):
        entry = plan.values.get(unit.output.name or "")
        last = unit.nodes[-1]
        if entry is None or entry.params is not None or last.op_type not in _CLAMPS:
            continue
        before = _before_clamp(unit, scales)
        if before is None or isinstance(entry.relation, Shared):
            continue
        lowest, _ = limits(entry.dtype)
        params = QuantParams(before.params.scale, np.asarray(lowest, np.int64))
        why = f"the grid of {before.name}, from zero up"
        plan.values[entry.name] = replace(entry, params=params, rule=DERIVED, reason=why)
    resolve_shared(plan)


def _before_clamp(unit: Unit, scales: ModelScales) -> Encoding | None:
    value = unit.nodes[-1].inputs[0]
    found = scales.given.encodings.by_name.get(value.name or "") if value is not None else None
    return found if found is not None and not found.params.scale.ndim else None


def missing(graph: ir.Graph, plan: QuantPlan, target: Target) -> list[str]:
    """Names of the activations that have no parameters, which samples must give."""
    return [value.name or "" for value in observed_values(graph, plan, target)]


def measured(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    ranges: str,
    executor: Executor,
    feeds: Sequence[Mapping[str, np.ndarray]],
    threads: int,
) -> Statistics:
    """Statistics of the activations that the model says nothing of.

    With the quantizers of all others in place: where a tool has taken out a Relu, its quantizer
    cuts off what is negative.
    """
    request = range_request(model.graph, plan, target, RANGE_METHODS[ranges]())
    if not request:
        return {}
    partly = quantize(model, replace(plan, ends="float"))
    return collect(executor, partly, request, feeds, threads=threads)


def keep_biases(graph: ir.Graph, plan: QuantPlan, scales: ModelScales) -> None:
    """Let each bias be stored as the integers that the model had (rule 4 above).

    With ``q`` those integers and ``s`` the plan's scale, ``correction = q * s - b`` makes
    ``rint((b + correction) / s) = q``: its own rounding is 2**-48 of ``q``.
    """
    for name, entry in plan.values.items():
        value = graph.initializers.get(name)
        if entry.role != "bias" or entry.params is None or value is None:
            continue
        array, q = g.constant(value), _bias_integers(value, entry.params, scales)
        if array is None or q is None or q.shape != array.shape:
            continue
        real = q.astype(np.float64) * entry.params.scale.astype(np.float64)
        now = np.rint(array.astype(np.float64) / entry.params.scale.astype(np.float64))
        if not np.array_equal(now, q):
            plan.corrections[name] = (real - array).astype(np.float32)


def _bias_integers(value: ir.Value, params: QuantParams, scales: ModelScales) -> np.ndarray | None:
    """Integers that a bias had, if they mean the same by the plan's scale."""
    props, array = value.metadata_props, g.constant(value)
    if props.get(_TYPE) != "INT32" or _SCALE not in props or array is None:
        return None
    scale = np.asarray([float(s) for s in props[_SCALE].split(",")], np.float64)
    if scale.size not in {1, array.size} or not np.all(scale > 0):
        return None
    if np.any(np.abs(params.scale / scale - 1) > _SAME_SCALE):
        return None  # that of the activation was added
    wide = scales.biases.get(value.name or "")
    if wide is not None:
        return wide
    return np.rint(array.astype(np.float64) / scale).astype(np.int64)


@dataclass(frozen=True)
class Kept:
    """How much of a model's own quantization its plan has, for the report."""

    activations: int
    weights: int
    biases: int
    """Whose parameters, or integers, are the model's to the last bit."""
    added: Mapping[str, str]
    """Value -> the rule by which it got parameters that the model does not give."""
    changed: Mapping[str, str]
    """Value that the model gives parameters -> why they are others now."""
    idle: Sequence[str]
    """Values that the model gives parameters and that no kernel stores: a bias that a layer adds
    to its sums, what a float node makes for another one."""


def kept(graph: ir.Graph, plan: QuantPlan, scales: ModelScales, refused: Mapping[str, str]) -> Kept:
    """Hold a finished plan against what the model said.

    Args:
        graph: the canonical float graph.
        plan: the plan.
        scales: what the model said.
        refused: value -> why what is said of it was not taken.
    """
    by_name = scales.given.encodings.by_name
    counts = {"activation": 0, "weight": 0, "bias": 0}
    added: dict[str, str] = {}
    changed: dict[str, str] = {}
    for name, entry in plan.values.items():
        if entry.params is None:
            continue
        if entry.role == "bias":
            value = graph.initializers.get(name)
            has = value is not None and _bias_integers(value, entry.params, scales) is not None
            counts["bias"] += has
            if not has and _is_used(graph, name):
                added[name] = "rounded from float"
            continue
        given = by_name.get(name)
        if given is None:
            added[name] = entry.rule
        elif _is_kept(given, entry.dtype, entry.params):
            counts[entry.role] += 1
        else:
            changed[name] = refused.get(name) or entry.reason or entry.rule
    idle = [name for name, one in by_name.items() if name not in plan.values]
    return Kept(counts["activation"], counts["weight"], counts["bias"], added, changed, idle)


def _is_kept(given: Encoding, dtype: str, params: QuantParams) -> bool:
    if storage_type(given.dtype).itemsize != storage_type(dtype).itemsize:
        return False
    moved = given.retyped(dtype)
    one = QuantParams(moved.scale.reshape(-1), moved.zero_point.reshape(-1))
    return one.same_as(QuantParams(params.scale.reshape(-1), params.zero_point.reshape(-1)))


def _is_used(graph: ir.Graph, name: str) -> bool:
    """Whether a bias holds anything: a layer without one is given zeros."""
    array = g.constant(graph.initializers.get(name))
    return array is not None and bool(np.any(array))
