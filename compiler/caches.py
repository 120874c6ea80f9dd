"""Attentions of a decoder as one operator of the target's, and its caches in few bits."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Final

import onnx_ir as ir

from qcompile.compiler.calibration.gather import gather
from qcompile.compiler.options import Scheme
from qcompile.compiler.progress import Progress
from qcompile.compiler.quantizing import quantize
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Executor, Feeds
from qcompile.core.notes import Note
from qcompile.core.plan import QuantPlan
from qcompile.core.target import Target
from qcompile.passes.decoder.find import search_decoder
from qcompile.passes.decoder.fuse_attention import POSITIONS, FuseAttention, why_not_fused
from qcompile.passes.decoder.records import Decoder
from qcompile.passes.decoder.store_caches import (
    FIRST,
    RECENT,
    exact_bytes,
    token_bytes,
    why_not_stored,
)
from qcompile.passes.plan.caches import (
    IN_PLAIN,
    choose_caches,
    error_request,
    plan_caches,
    reach_request,
)

if TYPE_CHECKING:
    from qcompile.compiler.pipeline import Compiled

SAMPLES: Final = 64
"""Samples that scales of caches are found on, at most."""


def attention_nodes(model: ir.Model, target: Target, scheme: Scheme) -> dict[str, str]:
    """Nodes that must stay float so that the target's operator can do their work -> why.

    None where nothing asks for the operator. What is missing for it, ``with_caches`` says.
    """
    if not scheme.kv or scheme.kv == "kv2" or not target.attention:
        return {}
    clone = model.clone()
    FuseAttention()(clone)
    left = {node.name for node in clone.graph}
    why = f"{target.attention} does its work, in floats"
    return {n.name or "": why for n in model.graph if n.name not in left}


def with_caches(
    compiled: "Compiled",
    target: Target,
    scheme: Scheme,
    executor: Executor,
    feeds: Sequence[Feeds],
    progress: Progress,
) -> "Compiled":
    """The plan with its decoder's attentions fused, and with the caches that the scheme asks for.

    Where the target has no such operator, the graph is none of a decoder, or its attentions are
    planned as integers, plain operators stay; they can store caches of 4 and 2 bits as well.

    Args:
        compiled: of everything else.
        target: what the artefact is for.
        scheme: names the caches.
        executor: runs the float graph.
        feeds: calibration samples; read only for caches.
        progress: told of the stage.

    Raises:
        QCompileError: SCHEME_UNSUPPORTED when caches are asked for that the model has not, naming
            what stands in the way; NO_DATA without samples to find their scales on.
    """
    search = search_decoder(compiled.model.graph)
    if scheme.kv:
        insist_on_cache(search.decoder, search.why_not, scheme.kv)
    if search.decoder is None:
        return compiled
    decoder, model = search.decoder, compiled.model
    why = why_plain(decoder, target, scheme.kv) or planned_inside(model, compiled.plan)
    if why and not scheme.kv:
        return compiled
    if scheme.kv and (why_not := _why_not_stored(decoder, scheme.kv, why)):
        raise _unsupported(scheme.kv, why_not)
    plan = replace(compiled.plan, values=dict(compiled.plan.values))
    plan.attention = "" if why else target.attention
    notes = [] if why else [_fused_note(decoder, target)]
    if scheme.kv:
        plan_caches(decoder, plan, scheme.kv, in_operator=not why)
        _choose(model, plan, scheme, executor, feeds, progress)
        notes.append(bytes_note(decoder, scheme.kv, in_operator=not why))
    return replace(compiled, plan=plan, qdq=quantize(model, plan), notes=(*compiled.notes, *notes))


def why_plain(decoder: Decoder, target: Target, cache: str) -> str:
    """Why plain operators do a decoder's attention; empty where the target's operator does."""
    if not target.attention:
        return f"{target.name} has no operator for it"
    if cache == "kv2":
        return f"{target.attention} stores 8 or 4 bits, not 2"
    return why_not_fused(decoder)


def _why_not_stored(decoder: Decoder, cache: str, why_plain: str) -> str:
    """Why caches cannot be stored as asked for; empty where they can."""
    if not why_plain:
        return ""
    if cache not in IN_PLAIN:
        return f"plain operators store 4 or 2 bits, and {why_plain}"
    return why_not_stored(decoder, _bits(cache))


def _bits(cache: str) -> int:
    return int(cache.removeprefix("kv"))


def expect_caches(
    model: ir.Model, expected: QuantPlan, saved: QuantPlan, target: Target, cache: str
) -> None:
    """Complete, in place, what a saved plan may say of attentions and caches."""
    search = search_decoder(model.graph)
    if cache:
        insist_on_cache(search.decoder, search.why_not, cache)
    if search.decoder is None:
        return
    plain = bool(why_plain(search.decoder, target, cache)) or not saved.attention
    expected.attention = "" if plain else target.attention
    if cache:
        plan_caches(search.decoder, expected, cache, in_operator=not plain)


def insist_on_cache(decoder: Decoder | None, why_not: str, cache: str) -> None:
    """Refuse a scheme with caches for a model that has none.

    Raises:
        QCompileError: SCHEME_UNSUPPORTED.
    """
    if decoder is None:
        raise _unsupported(cache, f"the model is no decoder that is understood: {why_not}")
    if not decoder.has_cache:
        raise _unsupported(
            cache,
            "the model has no cache: it takes no keys and values of earlier tokens",
            "export it with past_key_values as inputs and present as outputs",
        )


def _unsupported(cache: str, why: str, hint: str | None = None) -> QCompileError:
    return QCompileError(
        Code.SCHEME_UNSUPPORTED,
        f"+{cache}: {why}",
        hint=hint or f"leave +{cache} away, its keys and values then stay floats",
    )


def planned_inside(model: ir.Model, plan: QuantPlan) -> str:
    """The node inside an attention that is planned as integer, in a sentence; else empty."""
    clone = model.clone()
    FuseAttention()(clone)
    left = {node.name for node in clone.graph}
    for node in model.graph:
        makes = node.op_type in {"MatMul", "Softmax"} and node.name not in left
        if makes and plan.mode(node.name) != "float":
            return f"{node.name} inside its attention is planned as integer"
    return ""


def _choose(
    model: ir.Model,
    plan: QuantPlan,
    scheme: Scheme,
    executor: Executor,
    feeds: Sequence[Feeds],
    progress: Progress,
) -> None:
    """Find the scales of caches: how far channels reach, then which steps lose least."""
    samples = feeds[:SAMPLES] if len(feeds) > SAMPLES else feeds
    if not len(samples):
        raise QCompileError(
            Code.NO_DATA,
            f"+{scheme.kv} finds the scales of keys and values on samples, and there are none",
            hint="give calibration data with -d",
        )
    find = partial(
        gather, executor, model, feeds=samples, progress=progress, threads=scheme.threads
    )
    with progress.stage("caches"):
        reach = find(reach_request(plan))
        choose_caches(plan, find(error_request(plan, reach)))


def bytes_note(decoder: Decoder, cache: str, *, in_operator: bool) -> Note:
    """What the caches take, beside those of floats."""
    numbers = 2 * len(decoder.layers) * decoder.kv_heads * decoder.head_size
    if in_operator:
        text = f"keys and values take {numbers * _bits(cache) // 8} bytes a token"
        how = "one scale a channel of each head"
    else:
        text = f"keys and values take {token_bytes(decoder, _bits(cache))} bytes a token, and "
        text += f"{exact_bytes(decoder)} for the first {FIRST} and last {RECENT} of a text, which "
        text += "stay floats"
        how = "packed by plain operators, which decode all of it at each step"
    return Note("info", f"{text}, instead of {4 * numbers} a token ({cache}: {how})")


def _fused_note(decoder: Decoder, target: Target) -> Note:
    layers = len(decoder.layers)
    return Note(
        "info",
        f"{layers} attentions run as {target.attention} ({decoder.heads} heads, "
        f"{decoder.kv_heads} of keys and values), for texts of up to {POSITIONS} tokens",
    )
