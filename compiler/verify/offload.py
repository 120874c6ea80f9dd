"""What of an artefact leaves its target: told by the tool or the runtime, explained by the plan."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from qcompile.compiler.off_limits import OffLimits
from qcompile.compiler.report.mixed import Gate
from qcompile.compiler.report.model import Coverage
from qcompile.compiler.verify.coverage import integer_names
from qcompile.core import graph as g
from qcompile.core.accelerator import Offload, OffNode
from qcompile.core.accelerator_tool import Accelerated
from qcompile.core.backend import Backend
from qcompile.core.errors import Code, QCompileError
from qcompile.core.macs import macs
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.quantize.token_scales import products_of_tokens
from qcompile.targets.accelerators import accelerator_tool

_ESTIMATES: Mapping[str, tuple[str, ...]] = {
    "max-sram": ("sram_bytes", "arena_bytes"),
    "max-cycles": ("cycles",),
}
"""Gate -> the estimates it holds, the first that the tool gives."""


def accelerate(artefact: bytes, target: Target, backend: Backend) -> Accelerated:
    """The artefact as the target's tool compiles it; as it is where the runtime runs it alone.

    Raises:
        QCompileError: MISSING_EXTRA, ACCELERATOR_REFUSED; RUNTIME_REFUSED.
    """
    if target.accelerator is None or target.simulated:
        return Accelerated(artefact, backend.offload(artefact, target))
    return accelerator_tool(target.accelerator.tool).accelerate(artefact, target)


def look(
    artefact: bytes | Path, target: Target, backend: Backend
) -> tuple[Offload, tuple[Note, ...]]:
    """What of a finished artefact leaves its target, and what its tool has to say.

    Raises:
        QCompileError: as ``accelerate``.
    """
    if target.accelerator is None or target.simulated:
        return backend.offload(artefact, target), ()
    data = artefact if isinstance(artefact, bytes) else artefact.read_bytes()
    made = accelerate(data, target, backend)
    return made.offload, made.notes


def explain(
    offload: Offload,
    model: ir.Model,
    plan: QuantPlan,
    qdq: ir.Model,
    covered: Coverage,
    target: Target,
) -> Offload:
    """Name the nodes of the user's model behind what leaves the target, and what work is in them.

    Where the runtime alone runs the artefact, why the plan left a node float tells more than that
    the runtime runs floats; a tool's own reason stays, the plan's behind it.

    Args:
        offload: as the tool or the back end told it, by names of results.
        model: the canonical float graph.
        plan: what is integer in it.
        qdq: the QDQ graph of both.
        covered: the report's list of nodes that stayed float.
        target: what the artefact is for.
    """
    makers = _makers(model, plan, qdq)
    floats = {node.name: node.reason for node in covered.float_nodes}
    off = tuple(_named(node, makers, floats, target) for node in offload.off)
    return replace(offload, off=off, off_macs_share=_share(offload, model, plan, makers))


def judge_offload(limits: OffLimits, offload: Offload) -> tuple[Gate, ...]:
    """Hold what leaves the target, and the estimates, against the limits.

    Raises:
        QCompileError: BAD_OPTION when a limit is asked for a figure that no tool gives.
    """
    gates = []
    if limits.max_off_target is not None:
        count = len(offload.off)
        passed, limit = count <= limits.max_off_target, float(limits.max_off_target)
        where = f"off {offload.to}"
        gates.append(
            Gate(
                name="max-off-target",
                limit=limit,
                value=count,
                passed=passed,
                remark=where,
                how="counted",
            )
        )
    asked = {"max-sram": limits.max_sram, "max-cycles": limits.max_cycles}
    for name, most in asked.items():
        if most is not None:
            value = _estimate(offload, name)
            gates.append(
                Gate(
                    name=name,
                    limit=most,
                    value=value,
                    passed=value <= most,
                    remark=f"by {offload.source}",
                    how="estimated",
                )
            )
    return tuple(gates)


def _estimate(offload: Offload, name: str) -> float:
    key = next((key for key in _ESTIMATES[name] if key in offload.estimates), None)
    if key is None:
        raise QCompileError(
            Code.BAD_OPTION,
            f"--{name} needs a target whose tool estimates it, and nothing did here",
            hint="tflite-ethos-u55-128 and its like do, where something runs on the NPU",
        )
    return offload.estimates[key]


def _makers(model: ir.Model, plan: QuantPlan, qdq: ir.Model) -> dict[str, str]:
    """Name of a value of the artefact -> the node of the canonical graph that makes it.

    A node that absorbed others makes their values too.
    """
    integer, tokens = integer_names(qdq), products_of_tokens(qdq)
    makers = {}
    for node in model.graph:
        entry = plan.nodes.get(node.name or "")
        name = (entry.into if entry is not None else None) or node.name or ""
        for value in node.outputs:
            makers[value.name or ""] = name
            makers[integer.get(value.name or "", value.name or "")] = name
        if node.name in tokens:  # the node's own result is that times the scales of the tokens
            del makers[node.outputs[0].name or ""]
            makers[tokens[node.name]] = name
    return makers


def _named(
    off: OffNode, makers: Mapping[str, str], floats: Mapping[str, str], target: Target
) -> OffNode:
    name = makers.get(off.name, "")
    why = floats.get(name, "")
    if why and target.accelerator is not None:
        why = f"{off.reason}: {why}"
    return replace(off, name=name or off.name, reason=why or off.reason)


def _share(
    offload: Offload, model: ir.Model, plan: QuantPlan, makers: Mapping[str, str]
) -> float | None:
    """Share of the multiply-adds whose nodes are off the target; None for a model without any."""
    away = {makers.get(node.name, "") for node in offload.off}
    fused = {makers.get(node.name, "") for node in offload.off if _multiplies(node.op)}
    total = off = 0
    for node in model.graph:
        work = macs(node)
        if work:
            entry = plan.nodes.get(node.name or "")
            name = (entry.into if entry is not None else None) or node.name or ""
            total += work
            off += work if name in away or fused & set(_followers(node)) else 0
    return off / total if total else None


def _multiplies(op: str) -> bool:
    """Whether an operator of any runtime multiplies by weights: FULLY_CONNECTED, FusedConv."""
    name = op.upper().replace("_", "")
    return any(part in name for part in ("CONV", "GEMM", "MATMUL", "FULLYCONNECTED"))


def _followers(node: ir.Node) -> Iterator[str]:
    """Names of the nodes that a runtime may fuse into one that multiplies, in floats too: its
    result then goes by the name of theirs.
    """
    reader = g.only_consumer(node.outputs[0])
    while reader is not None and reader.op_type in {"Add", "Relu", "Clip"}:
        yield reader.name or ""
        reader = g.only_consumer(reader.outputs[0])
