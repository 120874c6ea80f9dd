"""Plan and canonical float graph in, QDQ graph out."""

from typing import Literal

import onnx_ir as ir

from qcompile.compiler.runner import run_passes
from qcompile.core.plan import QuantPlan
from qcompile.passes.decoder.fuse_attention import FuseAttention
from qcompile.passes.decoder.store_caches import StoreCaches
from qcompile.passes.plan.caches import key_grids, stored_caches, without_caches
from qcompile.passes.quantize.byte_ends import ByteEnds
from qcompile.passes.quantize.half_weights import HalfWeights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.passes.quantize.insert_stored import InsertStored
from qcompile.passes.quantize.store_codes import StoreCodes


def quantize(model: ir.Model, plan: QuantPlan) -> ir.Model:
    """The QDQ graph of a plan, as a new model that shares the tensors it does not change."""
    qdq = model.clone()
    if plan.attention:
        run_passes(qdq, [FuseAttention(stored=stored_caches(plan))])
    grids = key_grids(plan)
    if grids:
        bits: Literal[4, 2] = 2 if plan.scheme.endswith("kv2") else 4
        run_passes(qdq, [StoreCaches(bits, grids)])
    plan = without_caches(plan)
    if plan.weights != "int":
        run_passes(qdq, [StoreCodes(plan)])
    elif plan.nodes:
        ends = integer_ends(model, plan)
        run_passes(qdq, [InsertStored(plan), InsertQDQ(plan, frozenset(ends))])
    if plan.ends in {"uint8", "int8"}:
        run_passes(qdq, [ByteEnds(plan.ends)])
    if plan.scheme == "fp16":
        run_passes(qdq, [HalfWeights()])
    return qdq


def integer_ends(model: ir.Model, plan: QuantPlan) -> list[str]:
    """Inputs and outputs that are exchanged as integers: those with parameters, if asked for."""
    if plan.ends == "float":
        return []
    ends = (*model.graph.inputs, *model.graph.outputs)
    return [v.name or "" for v in ends if plan.quantized(v.name) is not None]
