"""Lines up the ends of another tool's model with those that the samples are for.

Tools rename inputs and outputs, and put pictures channels first or last. Ends correspond by name
where all names are the same, else by their place; axes by the order that fits the shape, channels
last where several do.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from qcompile.compiler.diff.side import Side
from qcompile.core.ends import End, FloatEnds
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Session
from qcompile.core.signature import Dim, Signature, TensorSpec
from qcompile.targets.tflite.layout import channels_last

T = TypeVar("T")

MOST_RANK = 5
"""Orders of more axes than this are not tried."""


@dataclass(frozen=True, eq=False)
class Aligned:
    """A session that is fed and read by the names of the samples' signature."""

    ends: FloatEnds
    names: Mapping[str, str]
    """Name of an end in the signature -> of the model's own."""
    output_names: tuple[str, ...]
    """In the model's order."""

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the inputs."""
        own = {mine: name for name, mine in self.names.items()}
        return [own.get(name, name) for name in self.ends.input_names]

    def feeds(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The samples' feeds as the model itself takes them."""
        return self.ends.feeds({self.names.get(name, name): x for name, x in feeds.items()})

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run once on the samples' feeds."""
        return self.ends.run({self.names.get(name, name): x for name, x in feeds.items()})


def aligned_session(side: Side, session: Session) -> Aligned:
    """A session of an aligned side."""
    assert side.facts is not None
    own = {mine: name for name, mine in side.end_names.items()}
    outputs = tuple(own.get(name, name) for name in session.output_names)
    return Aligned(FloatEnds(session, side.facts.ends), side.end_names, outputs)


def align(side: Side, signature: Signature) -> Side:
    """A side whose ends are called, and read, as the signature has them.

    Raises:
        QCompileError: BAD_OPTION when it has another number of inputs or outputs.
    """
    assert side.facts is not None
    pairs = [
        *_pairs("inputs", signature.inputs, side.facts.inputs, side),
        *_pairs("outputs", signature.outputs, side.facts.outputs, side),
    ]
    ends = dict(side.facts.ends)
    for wanted, own in pairs:
        end = ends.get(own.name, End(own.dtype))
        perm = end.perm if end.perm is not None else _perm(own.shape, wanted.shape)
        if perm is not None:
            ends[own.name] = replace(end, perm=perm)
    names = {wanted.name: own.name for wanted, own in pairs if wanted.name != own.name}
    called = renamed(side, {own: name for name, own in names.items()})
    return replace(called, facts=replace(side.facts, ends=ends), end_names=names)


def align_clamps(side: Side, other: Side) -> Side:
    """A side whose fused results are called as the ONNX graph calls them after the clamp, and its
    nodes as the nodes there.
    """
    called = renamed(side, {n: other.clamps[n] for n in side.fused if n in other.clamps})
    if not _has_nodes_by_value(side) or other.format != "onnx":
        return called
    nodes = {other.makers.get(v, (v, ""))[0]: info for v, info in called.nodes.items()}
    return replace(called, nodes=nodes)


def have_equal_ends(sides: Sequence[Side]) -> bool:
    """Whether all have as many inputs and outputs as the first."""
    counts = {(len(s.facts.inputs), len(s.facts.outputs)) for s in sides if s.facts is not None}
    return len(counts) == 1 and all(side.facts is not None for side in sides)


def renamed(side: Side, names: Mapping[str, str]) -> Side:
    """A side whose values are called otherwise: own name -> new one."""
    if not names:
        return side
    return replace(
        side,
        nodes=_renamed(side.nodes, names) if _has_nodes_by_value(side) else side.nodes,
        sites=_renamed(side.sites, names),
        grids=_renamed(side.grids, names),
        makers=_renamed(side.makers, names),
        parents={
            names.get(name, name): tuple(names.get(one, one) for one in above)
            for name, above in side.parents.items()
        },
    )


def _has_nodes_by_value(side: Side) -> bool:
    """Whether the nodes of a side bear the names of their results, having none of their own."""
    return side.format == "tflite" and side.plan is None


def _renamed(table: Mapping[str, T], names: Mapping[str, str]) -> dict[str, T]:
    return {names.get(name, name): entry for name, entry in table.items()}


def _pairs(
    what: str, wanted: Sequence[TensorSpec], own: Sequence[TensorSpec], side: Side
) -> list[tuple[TensorSpec, TensorSpec]]:
    by_name = {spec.name: spec for spec in own}
    if {spec.name for spec in wanted} == set(by_name):
        return [(spec, by_name[spec.name]) for spec in wanted]
    if len(wanted) != len(own):
        raise QCompileError(
            Code.BAD_OPTION,
            f"{side.path.name} has {len(own)} {what}, the other side {len(wanted)}",
            hint="only models with the same ends can be run on the same data",
        )
    return list(zip(wanted, own, strict=True))


def _perm(own: Sequence[Dim] | None, wanted: Sequence[Dim] | None) -> tuple[int, ...] | None:
    """The order of axes in which ``own[i]`` is ``wanted[perm[i]]``; None for none or no change."""
    if own is None or wanted is None or len(own) != len(wanted) or len(own) > MOST_RANK:
        return None
    rank = len(own)
    if all(map(_fits, own, wanted)):
        return None
    orders = [channels_last(rank), *itertools.permutations(range(rank))]
    return next((o for o in orders if all(map(_fits, own, (wanted[i] for i in o)))), None)


def _fits(own: Dim, wanted: Dim) -> bool:
    return not isinstance(own, int) or not isinstance(wanted, int) or own == wanted
