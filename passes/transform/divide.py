"""Outlying channels are divided out in front of MatMuls, behind ops that no factor goes through."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import onnx_ir as ir

from qcompile.core import graph as g
from qcompile.core.statistics.base import StatisticRequest, Statistics
from qcompile.passes.prepare.edit import insert, is_op
from qcompile.passes.prepare.linear import layer_of
from qcompile.passes.transform import smoothing
from qcompile.passes.transform.apply import apply_factors
from qcompile.passes.transform.reads import Read

NAME: Final = "divide"

SUFFIX: Final = ".divided"
"""What the name of the value that MatMuls read instead ends in."""

BEHIND: Final = ("Gelu", "HardSwish", "Mish", "Elu", "Selu", "Celu", "Softplus", "Mul", "Tanh")
"""Ops whose outputs are looked at: neither norms nor layers, which take up a factor themselves."""

RANKS: Final = (1, 2, 4, 8, 16, 32, 64)
"""Channels are cut down to the range of the one of this rank, the widest being of rank 0."""

ALPHAS: Final = (0.3, 0.5, 0.7)
"""Shares of the activation's range that are tried to be moved into the weights as well."""

LEAST_GAIN: Final = 0.5
"""Share of the error that may be left: a Mul has to be worth its time."""


@dataclass(frozen=True)
class Divide(ir.passes.InPlacePass):
    """Scale what MatMuls read by a Mul in front of them.

    With X the output of an op f that no factor goes through, and one number s a channel,

        f(v) W = (f(v) * (1 / s)) (s W)

    In transformers a few channels behind a Gelu reach five times as far as all others, and always
    the same ones, at a token that every text has: one scale for all leaves the others two bits
    fewer. ``smooth`` cannot help, since f is not linear. The Mul computes in floats where f does,
    and costs one pass over the activation; where f is an integer op, X is quantized before it, and
    the search drops the transform.

    Matched: outputs of ``BEHIND`` that MatMul or Gemm with constant weights of their own read;
    others may read them too, as they were. The float function is kept but for the rounding of the
    factors and the new weights to float32.

    Args:
        factors: name of X -> s, float32 (channels,); QCompileError(BAD_PLAN) when there is no such
            value in the graph.
    """

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Apply what was not applied to this graph before."""
        stand_ins = _with_muls(model.graph, set(self.factors))
        changed = apply_factors(model, NAME, self.factors, stand_ins)
        return ir.passes.PassResult(model, changed or bool(stand_ins))


def request(model: ir.Model) -> StatisticRequest:
    """The statistics that ``find`` needs of what each group of MatMuls reads."""
    return smoothing.request(_reads(model))


def find(
    model: ir.Model, statistics: Statistics, granularity: str | None = None
) -> dict[str, np.ndarray]:
    """Find the factors, each value on its own.

    Tried are ``max(max|X| / t, 1)`` a channel with t the range of a channel of ``RANKS``, and what
    ``smooth`` tries; the one that leaves the least error in the layers' outputs is taken
    (``smoothing.Trial``), or none where that is not less than ``LEAST_GAIN`` of it.

    Args:
        model: the canonical float graph; not changed.
        statistics: what ``request`` asked for.
        granularity: of the weights' scales, ``tensor`` or else ``channel``.

    Returns:
        Name of X -> s, float32 (channels,).
    """
    found = {}
    for read in _reads(model):
        trial = smoothing.trial_of(read, statistics, granularity)
        factors = None if trial is None else trial.best(_candidates(trial), LEAST_GAIN)
        if factors is not None:
            found[read.key] = factors.astype(np.float32)
    return found


def changed_values(model: ir.Model, factors: Iterable[str]) -> set[str]:
    """Names of the values that are new after these were divided."""
    clone = model.clone()
    return set(_with_muls(clone.graph, set(factors)).values())


def _candidates(trial: smoothing.Trial) -> Iterator[np.ndarray]:
    widest = np.sort(trial.absmax)[::-1]
    for rank in RANKS:
        if rank < widest.size:
            yield np.maximum(trial.absmax / widest[rank], 1.0)
    yield from map(trial.shared, ALPHAS)


def _reads(model: ir.Model) -> list[Read]:
    """The values that can be divided, by their names before."""
    clone = model.clone()
    muls = _with_muls(clone.graph)
    return smoothing.reads(clone.graph, muls, only_twins=True)


def _with_muls(graph: ir.Graph, wanted: set[str] | None = None) -> dict[str, str]:
    """Put a Mul by 1 between values and the layers that read them, in place.

    Args:
        graph: the canonical float graph.
        wanted: names of values; None for all that can be divided.

    Returns:
        Value -> what the layers read now. A value whose layers have their Mul already is left out.
    """
    made = {}
    for node in list(graph):
        value = node.outputs[0]
        name, layers = value.name or "", _layers(node)
        if layers and (wanted is None or name in wanted):
            made[name] = _insert(graph, value, layers)
    return made


def _layers(node: ir.Node) -> list[ir.Node]:
    """The MatMuls and Gemms with constant weights that read what one of ``BEHIND`` makes."""
    value = node.outputs[0]
    channels = None if value.shape is None or not len(value.shape) else value.shape[-1]
    if not is_op(node, *BEHIND) or not isinstance(channels, int) or channels < 2:
        return []
    if is_op(node, "Mul") and any(g.constant(v) is not None for v in node.inputs):
        return []  # a gain: it takes up factors itself
    readers = [use.node for use in value.uses() if use.idx == 0 and use.node.graph is value.graph]
    layers = [layer_of(reader) for reader in readers if is_op(reader, "MatMul", "Gemm")]
    found = {one.node for one in layers if one is not None and one.in_channels == channels}
    return [reader for reader in dict.fromkeys(readers) if reader in found]


def _insert(graph: ir.Graph, value: ir.Value, layers: list[ir.Node]) -> str:
    channels = value.shape[-1] if value.shape else None
    assert isinstance(channels, int)  # as ``_layers`` asks
    gain = g.make_initializer(graph, f"{value.name}{SUFFIX}.by", np.ones(channels, np.float32))
    first = next(node for node in graph if node in layers)
    name = f"{value.name}{SUFFIX}"
    made = insert(first, "Mul", [value, gain], name, NAME, like=value, source=value.producer())
    for layer in layers:
        layer.replace_input_with(0, made)
    return made.name or ""
