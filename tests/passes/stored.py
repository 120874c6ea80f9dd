"""A small model with every kind of stored weight, given as text, and its weight-only plan."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from qcompile.core.graph import fingerprint
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.plan.weights_only import plan_weights_only
from qcompile.passes.rounding.stored_choice import choose_stored, nearest
from qcompile.targets.catalog import load_target
from tests.passes.prepare.checking import parse, rand

TARGET = load_target("ort-x86-vnni")
TABLE = rand(60, 64)

TIED = {"table": TABLE, "w": rand(64, 72), "v": rand(80, 72), "b": rand(80), "head": rand(80, 64)}


def moved(model: ir.Model, name: str, by: np.ndarray | float) -> None:
    """Add something to a constant."""
    value = model.graph.initializers[name]
    assert value.const_value is not None
    value.const_value = ir.Tensor((value.const_value.numpy() + by).astype(np.float32))


def decoder() -> ir.Model:
    """Rows of a table, a MatMul, a Gemm with transB and a bias, and a head tied to the table."""
    return parse(
        """g (int64[n] i) => (float[n, 60] y) {
            e = Gather (table, i)
            a = MatMul (e, w)
            c = Tanh (a)
            d = Gemm <transB = 1> (c, v, b)
            f = MatMul (d, head)
            y = MatMul (f, tied)
        }""",
        {**TIED, "tied": np.ascontiguousarray(TABLE.T)},
    )


def planned(
    model: ir.Model,
    bits: int = 4,
    group: int | None = 32,
    *,
    symmetric: bool | None = False,
    granularity: str | None = None,
    float_nodes: Mapping[str, str] | None = None,
    target: Target | None = None,
    complete: bool = True,
) -> QuantPlan:
    """The plan of a weight-only scheme, rounded to nearest."""
    on = (target or TARGET).under(f"w{bits}")
    plan = QuantPlan(fingerprint(model), on.name, f"w{bits}")
    plan_weights_only(
        model.graph, plan, on, float_nodes or {}, bits,
        group=group, granularity=granularity, symmetric=symmetric,
    )  # fmt: skip
    if complete:
        choose_stored(model.graph, plan, {}, nearest(symmetric))
    return plan


def without_params(plan: QuantPlan) -> QuantPlan:
    """The same plan before any scale was chosen."""
    values = {name: replace(entry, params=None) for name, entry in plan.values.items()}
    return replace(plan, values=values)
