"""The way of a scheme that stores weights in integers and computes with float activations."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import onnx_ir as ir

from qcompile.compiler.options import Scheme
from qcompile.compiler.planning import empty_plan
from qcompile.compiler.progress import Progress
from qcompile.compiler.weight_options import check_weights_found
from qcompile.core.memory import give_back
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.rounding.stored_choice import choose_stored, nearest, signs

BINARY: Final = "w1"
"""The scheme of two values a group, which nothing but the sign chooses."""


def plan_stored(
    model: ir.Model,
    target: Target,
    scheme: Scheme,
    progress: Progress,
    float_nodes: Mapping[str, str],
    bits: Mapping[str, int] | None = None,
    groups: Mapping[str, int] | None = None,
) -> QuantPlan:
    """The plan of a weight-only scheme, with the scales and codes of every stored weight.

    Args:
        model: the canonical float graph.
        target: what the artefact is for.
        scheme: what is asked for.
        progress: told of the stage.
        float_nodes: node name -> why it must stay float.
        bits: weight -> its width, where that is not the scheme's.
        groups: weight -> elements that share a scale, where they are not the scheme's.

    Raises:
        QCompileError: BAD_OPTION for options of stored weights where there are none.
    """
    plan = empty_plan(model, target, scheme, float_nodes)
    check_weights_found(scheme, plan, model.graph)
    for name, width in (bits or {}).items():
        plan.values[name] = replace(plan.values[name], dtype=f"uint{width}")
    for name, size in (groups or {}).items():
        plan.values[name] = replace(plan.values[name], group=size)
    with progress.stage("store weights"):
        usual = signs if scheme.scheme == BINARY else nearest(scheme.symmetric)
        choose_stored(model.graph, plan, {}, usual)
    give_back()
    return plan
