"""A plan from nothing to its last parameter: modes, values, ranges, weights, safety."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import onnx_ir as ir

from qcompile.compiler.encodings.importing import import_encodings
from qcompile.compiler.options import Scheme
from qcompile.core import graph as g
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import storage_type
from qcompile.core.plan import Chosen, QuantPlan
from qcompile.core.schemes import FLOAT_SCHEMES
from qcompile.core.statistics.base import Statistics
from qcompile.core.target import Target
from qcompile.passes.plan.activations import choose_activations
from qcompile.passes.plan.assign import assign_dynamic, assign_static
from qcompile.passes.plan.bias_range import fit_biases
from qcompile.passes.plan.captured import captured_nodes
from qcompile.passes.plan.codebooks import choose_levels, plan_codes
from qcompile.passes.plan.low_bit_tokens import ends_left_float, read_by_token
from qcompile.passes.plan.pixel_values import fix_pixels
from qcompile.passes.plan.ranges.table import RANGE_METHODS
from qcompile.passes.plan.safe_weights import SaturationCount, make_weights_safe
from qcompile.passes.plan.scale_ratios import fit_scale_ratios
from qcompile.passes.plan.tables import KnownTables, plan_tables
from qcompile.passes.plan.values import plan_values
from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.plan.weights_only import plan_weights_only

NOTHING_CHOSEN: Final = Chosen()

CORRECTION_SAMPLES: Final = (8, 128)
"""Fewest and most samples whose means bias correction matches, where there are so many."""

CORRECTION_BYTES: Final = 96 << 20
"""Bytes that the live activations of those samples may take; that decides how many there are."""


def empty_plan(
    model: ir.Model,
    target: Target,
    scheme: Scheme,
    float_nodes: Mapping[str, str],
    chosen: Chosen = NOTHING_CHOSEN,
    *,
    fingerprint: str | None = None,
    tables: KnownTables | None = None,
) -> QuantPlan:
    """Decide which nodes become integer, and which values need parameters.

    Args:
        model: the canonical float graph.
        target: has the rules.
        scheme: what is asked for.
        float_nodes: node name -> why it must stay float.
        chosen: what was chosen for single nodes.
        fingerprint: of the canonical graph, where it is known.
        tables: remembers what is known of embeddings from one plan to the next.
    """
    known = g.fingerprint(model) if fingerprint is None else fingerprint
    plan = QuantPlan(known, target.name, scheme.name, ends=scheme.ends, weights=scheme.weights)
    floats = {**chosen.float_nodes, **float_nodes}
    if scheme.weights != "int":
        plan_codes(model.graph, plan, scheme.weight_bits, floats)
    elif scheme.weight_bits:
        floats = {**ends_left_float(model.graph), **floats} if scheme.tokens else floats
        plan_weights_only(
            model.graph,
            plan,
            target,
            floats,
            scheme.weight_bits,
            group=scheme.group,
            granularity=scheme.granularity,
            symmetric=scheme.symmetric,
        )
        if scheme.tokens:
            read_by_token(plan, target)
    elif scheme.scheme not in FLOAT_SCHEMES:
        if scheme.needs_data:
            wide, dynamic = chosen.wide_nodes, chosen.dynamic_nodes
            floats = {**captured_nodes(model.graph), **floats}
            assigned = assign_static(model.graph, target, floats, wide, dynamic)
        else:
            assigned = assign_dynamic(model.graph, target, floats)
        plan.nodes = assigned.nodes
        fix_pixels(model, plan, target)
        plan_values(model.graph, plan, target)
        plan_tables(model.graph, plan, target, floats, tables)
    if scheme.encodings is not None:
        import_encodings(scheme.encodings, model.graph, plan, target)
    return plan


def complete(
    model: ir.Model,
    plan: QuantPlan,
    target: Target,
    scheme: Scheme,
    statistics: Statistics,
    after_ranges: Callable[[QuantPlan], None] = lambda _: None,
) -> tuple[SaturationCount, list[Note]]:
    """Set every parameter of a plan: activations, weights, safety of sums, biases.

    Args:
        model: the graph the plan is laid on.
        plan: modes and values, without parameters; completed in place.
        target: its kernels decide what is safe.
        scheme: names the range method and the granularity.
        statistics: what the range method asked for.
        after_ranges: may change the ranges before anything follows from them.
    """
    if plan.weights != "int":
        notes = choose_levels(model.graph, plan, plan.weights, scheme.granularity, statistics)
        return SaturationCount(), notes
    ranges = scheme.ranges or "minmax"
    method = RANGE_METHODS[ranges]()
    choose_activations(model.graph, plan, target, method, ranges, statistics)
    after_ranges(plan)
    choose_weights(model.graph, plan, target, scheme.granularity)
    return prove_safe(model, plan, target, scheme)


def prove_safe(
    model: ir.Model, plan: QuantPlan, target: Target, scheme: Scheme
) -> tuple[SaturationCount, list[Note]]:
    """Make every scale one that the kernels take, and every sum one that fits."""
    raised = fit_scale_ratios(model.graph, plan, target)
    raised += fit_biases(model.graph, plan, target.sum_bits)
    saturation = make_weights_safe(model.graph, plan, target, scheme.granularity)
    raised += fit_scale_ratios(model.graph, plan, target)
    raised += fit_biases(model.graph, plan, target.sum_bits)
    return saturation, [Note("info", sentence) for sentence in raised]


def correction_samples(model: ir.Model, plan: QuantPlan, available: int) -> int:
    """How many samples bias correction can hold at once.

    A sample's share is its inputs in float and, where the graph is widest, what goes in and what
    comes out of a layer as integers. Unknown dimensions count as 1.
    """
    widths = {
        name: storage_type(entry.dtype).itemsize
        for name, entry in plan.values.items()
        if entry.role == "activation"
    }
    usual = min(widths.values(), default=1)  # a few wide nodes make no difference
    made = [v for node in model.graph for v in node.outputs]
    widest = max((widths.get(v.name or "", usual) * _elements(v) for v in made), default=0)
    share = 4 * sum(map(_elements, model.graph.inputs)) + 2 * widest
    fewest, most = CORRECTION_SAMPLES
    return min(available, max(fewest, min(most, CORRECTION_BYTES // max(share, 1))))


def _elements(value: ir.Value) -> int:
    if value.shape is None:
        return 0
    return math.prod(d if isinstance(d, int) else 1 for d in value.shape)
