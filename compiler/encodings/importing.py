"""Encodings of a file into a plan: taken as they are, or left with a reason.

1. A name that the user's model does not have is an error: it is a mistyped one, or the file of
   another model.
2. An activation takes its scale and zero point, moved to the plan's type when that has the same
   width. All that must be equal to it (concat, pool, reshape) takes the same; of several that are
   given in such a group the leader's counts, else the first.
3. A weight takes its scales where its kernel can: a zero point in the middle where the kernel
   demands that, scales by channel along the kernel's own axis only, and only if preparation has
   not folded anything into it, since the file speaks of the numbers in the user's model.
4. What a kernel sets, and biases, follow from elsewhere.

What is left over is calibrated as if there were no file.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Final

import onnx_ir as ir

from qcompile.compiler.encodings.formats import read_encodings
from qcompile.compiler.encodings.record import Encoding, Encodings
from qcompile.compiler.encodings.source import SourceModel, source_of
from qcompile.core import graph as g
from qcompile.core.errors import Code, QCompileError
from qcompile.core.notes import Note
from qcompile.core.numerics.affine import bit_width, zero_offset
from qcompile.core.plan import Fixed, QuantParams, QuantPlan, Shared, ValuePlan
from qcompile.core.target import Target
from qcompile.core.units import Unit, units
from qcompile.passes.plan.weights import IMPORTED, channel_axis

RULE: Final = IMPORTED
_NAMES: Final = 3
"""How many names a note lists."""


@dataclass(frozen=True, eq=False)
class GivenEncodings:
    """A file of encodings and, once it is imported, the model it speaks of."""

    path: Path
    encodings: Encodings
    source: SourceModel | None = None

    def of(self, model: ir.Model) -> "GivenEncodings":
        """The same for a model that has just been imported, before it is prepared."""
        return replace(self, source=source_of(model))


def given_encodings(path: Path) -> GivenEncodings:
    """Read a file.

    Raises:
        QCompileError: BAD_ENCODINGS.
    """
    return GivenEncodings(path, read_encodings(path))


@dataclass
class Taken:
    """What was taken from a file into a plan."""

    params: dict[str, QuantParams] = field(default_factory=dict)
    """Value -> what the file gives it, in the plan's type."""
    notes: list[Note] = field(default_factory=list)
    refused: Mapping[str, str] = field(default_factory=dict)
    """Value -> why what the file gives it was not taken."""

    def changes(self, plan: QuantPlan) -> list[Note]:
        """A warning for what could not stay as given, once every parameter is safe."""
        changed = [
            name
            for name, params in self.params.items()
            if (now := plan.values[name].params) is None or not now.same_as(params)
        ]
        return _notes({"the kernels demand other scales than the file gives": changed}, "warning")


def import_encodings(
    given: GivenEncodings, graph: ir.Graph, plan: QuantPlan, target: Target
) -> Taken:
    """Set the parameters that a file gives; everything else stays open.

    Args:
        given: the file, with its model.
        graph: the canonical float graph.
        plan: its entries have no parameters yet, but for what kernels set.
        target: what the plan is made for.

    Raises:
        QCompileError: BAD_ENCODINGS for a name that the user's model does not have.
    """
    importer = _Importer(given, graph, plan, target)
    importer.check_names()
    for name, encoding in given.encodings.by_name.items():
        importer.take(name, encoding)
    importer.settle_groups()
    return importer.taken()


def import_notes(
    given: GivenEncodings, graph: ir.Graph, plan: QuantPlan, target: Target
) -> list[Note]:
    """What there is to say about a plan that was made with encodings: taken, left and changed."""
    taken = import_encodings(given, graph, replace(plan, values=dict(plan.values)), target)
    return [*taken.notes, *taken.changes(plan)]


class _Importer:
    """Goes through one file for one plan and keeps the reasons."""

    def __init__(
        self, given: GivenEncodings, graph: ir.Graph, plan: QuantPlan, target: Target
    ) -> None:
        self.given = given
        self.plan = plan
        self.target = target
        self.values = {value.name or "": value for value in g.values(graph)}
        self.weights: dict[str, Unit] = {}
        for unit in units(graph, plan):
            if unit.weight is not None:
                self.weights.setdefault(unit.weight.name or "", unit)
        self.idle: dict[str, list[str]] = {}
        self.refused: dict[str, list[str]] = {}
        self.groups: dict[str, dict[str, QuantParams]] = {}
        self.params: dict[str, QuantParams] = {}
        for name, why in given.encodings.left.items():
            self._refuse(name, why)

    def check_names(self) -> None:
        """Hold the file to naming values of the user's model or of the prepared one."""
        known = set(self.values)
        if self.given.source is not None:
            known |= self.given.source.values
        unknown = [name for name in self.given.encodings.by_name if name not in known]
        if not unknown:
            return
        near = ", ".join(map(repr, get_close_matches(unknown[0], sorted(known), n=3)))
        more = f", nor {len(unknown) - 1} others that it gives" if len(unknown) > 1 else ""
        raise QCompileError(
            Code.BAD_ENCODINGS,
            f"{self.given.path}: the model has no value {unknown[0]!r}{more}",
            hint=f"did you mean {near}?" if near else "is it another model's?",
        )

    def take(self, name: str, encoding: Encoding) -> None:
        """One encoding into the plan, or its name to the reasons."""
        entry = self.plan.values.get(name)
        if entry is None:
            self.idle.setdefault("no integer node reads or makes them", []).append(name)
        elif entry.role == "bias":
            self.idle.setdefault("scales of biases follow from the others", []).append(name)
        elif bit_width(encoding.dtype) != bit_width(entry.dtype):
            why = f"the plan has {entry.dtype} where the file has {encoding.dtype}"
            self._refuse(name, why)
        elif entry.role == "weight":
            self._weight(entry, encoding)
        else:
            self._activation(entry, encoding)

    def _activation(self, entry: ValuePlan, encoding: Encoding) -> None:
        params = encoding.retyped(entry.dtype)
        value = self.values[entry.name]
        if params.scale.ndim:
            if params.scale.size != 1:
                self._refuse(entry.name, "the kernels take one scale for an activation")
                return
            params = QuantParams(params.scale.reshape(()), params.zero_point.reshape(()))
        if entry.symmetric and (params.zero_point != zero_offset(entry.dtype)).any():
            self._refuse(entry.name, f"the kernels demand zero point {zero_offset(entry.dtype)}")
        elif g.constant(value) is not None and self._was_changed(value):
            self._refuse(entry.name, "preparation has changed these constants")
        else:
            leader = entry.relation.leader if isinstance(entry.relation, Shared) else entry.name
            self.groups.setdefault(leader, {})[entry.name] = params

    def _weight(self, entry: ValuePlan, encoding: Encoding) -> None:
        unit, value = self.weights[entry.name], self.values[entry.name]
        params = encoding.retyped(entry.dtype)
        axis = channel_axis(unit, value, self.target)
        if params.scale.ndim and params.scale.size == 1:
            params = QuantParams(params.scale.reshape(()), params.zero_point.reshape(()))
        fault = self._weight_fault(entry, encoding, params, axis)
        if fault is not None:
            self._refuse(entry.name, fault)
            return
        is_channel = params.scale.ndim > 0
        self.plan.values[entry.name] = replace(
            entry,
            granularity="channel" if is_channel else "tensor",
            axis=axis if is_channel else None,
            params=params,
            rule=RULE,
            reason=f"given by {self.given.path.name}",
        )
        self.params[entry.name] = params

    def _weight_fault(
        self, entry: ValuePlan, encoding: Encoding, params: QuantParams, axis: int | None
    ) -> str | None:
        value = self.values[entry.name]
        middle = zero_offset(entry.dtype)
        if self._was_changed(value):
            return "preparation has folded something into these weights"
        if entry.symmetric and (params.zero_point != middle).any():
            return f"the kernels demand zero point {middle} for weights"
        if not params.scale.ndim:
            return None
        if axis is None:
            return "the kernels take one scale for these weights"
        shape = g.static_shape(value) or ()
        if params.scale.size != shape[axis] or (
            encoding.axis is not None and encoding.axis % len(shape) != axis
        ):
            return f"the kernels take one scale, or {shape[axis]} along axis {axis}"
        return None

    def settle_groups(self) -> None:
        """Give each group of equal parameters what the file says of its leader, or its first."""
        for leader, members in self.groups.items():
            first = next((name for name in self.plan.values if name in members), leader)
            chosen = leader if leader in members else first
            params = members[chosen]
            relation = self.plan.values[leader].relation
            if isinstance(relation, Fixed):
                self._hold_to_kernel(leader, members, relation)
                continue
            for name, other in members.items():
                if not other.same_as(params):
                    self._refuse(name, f"they must have the scale of {chosen}")
            self._set_group(leader, params, set(members))

    def _hold_to_kernel(
        self, leader: str, members: Mapping[str, QuantParams], relation: Fixed
    ) -> None:
        fixed = self.plan.values[leader].params
        for name, params in members.items():
            if fixed is None or not params.same_as(fixed):
                why = f"the kernel of {relation.op} sets its scale itself"
                self._refuse(name, why)

    def _set_group(self, leader: str, params: QuantParams, given: set[str]) -> None:
        for name, entry in list(self.plan.values.items()):
            follows = isinstance(entry.relation, Shared) and entry.relation.leader == leader
            if name != leader and not follows:
                continue
            if name in given or name == leader:
                entry = replace(entry, rule=RULE, reason=f"given by {self.given.path.name}")
                self.params[name] = params
            self.plan.values[name] = entry.with_params(params)

    def taken(self) -> Taken:
        """What was taken, and a note for each reason not to take something."""
        total = len(self.given.encodings.by_name) + len(self.given.encodings.left)
        count = len(set(self.params) & set(self.given.encodings.by_name))
        text = f"{count} of {total} encodings of {self.given.path.name} are taken as they are"
        notes = [Note("info", text), *_notes(self.idle, "info"), *_notes(self.refused, "warning")]
        refused = {name: why for why, names in self.refused.items() for name in names}
        return Taken(self.params, notes, refused)

    def _refuse(self, name: str, why: str) -> None:
        self.refused.setdefault(why, []).append(name)

    def _was_changed(self, value: ir.Value) -> bool:
        source = self.given.source
        return source is not None and not source.is_unchanged(value)


def _notes(reasons: Mapping[str, list[str]], level: str) -> list[Note]:
    """One note for each reason, with the first names."""
    found = []
    for why, names in reasons.items():
        if not names:
            continue
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        text = f"encodings without effect: {', '.join(names[:_NAMES])}{more}: {why}"
        found.append(Note("warning" if level == "warning" else "info", text))
    return found
