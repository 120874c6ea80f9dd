"""Finds the first operator that parts on a device that keeps no inner values, by cutting the file.

A delegate or a fusion hides what is inside, and an inner value made an output may change what is
fused. So the artefact is cut: a file that ends at a frontier of inner values computes all before
it as the whole does. In the order of the graph the frontier after value i is all that has been
computed by then and is still read; while a frontier is equal, whatever parts comes later. Binary
search then needs no order among the differences: it keeps an equal frontier below and an unequal
one above until they are neighbours, and the value between them is the first that parts. Last
runs, of that value alone and of each that it is made from, confirm it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompile.compiler.report.devices import Found
from qcompile.compiler.verify.gap import largest_gap
from qcompile.compiler.verify.inside import Arrays, Inner, Inside
from qcompile.core.executor import Feeds
from qcompile.core.numerics.affine import dequantize
from qcompile.targets.devices.device import Device, Program


def bisect(
    inside: Inside, device: Device, given: Feeds, wanted: Arrays, last: str | None = None
) -> Found | None:
    """The first operator whose result parts on one sample; None when no inner value does.

    Where the last run does not confirm what the search ended at (a value that is read early and
    late stood in a frontier, and a fusion that spans it was broken), every value is looked at by a
    file of its own, in order.

    Args:
        inside: the artefact.
        device: where it runs.
        given: a sample on which an output differs, or the value ``last``.
        wanted: what all values should be on it.
        last: an inner value behind which nothing needs to be looked at; None for the outputs.

    Raises:
        QCompileError: what devices raise, RUNTIME_REFUSED for a cut file among them.
    """
    values = [value for value in inside.values if value.tensor in wanted]
    names = [value.name for value in values]
    values = values[: names.index(last) + 1] if last in names else values
    search = _Search(inside, device, given, wanted)
    if not values or not search.parts(_frontier(values, len(values) - 1)):
        return None
    equal, parted = -1, len(values) - 1
    while parted - equal > 1:
        middle = (equal + parted) // 2
        if search.parts(_frontier(values, middle)):
            parted = middle
        else:
            equal = middle
    found = search.confirm(values[parted], values)
    if found.confirmed:
        return found
    for value in values:
        if search.parts([value]):
            return search.confirm(value, values)
    return found


@dataclass
class _Search:
    inside: Inside
    device: Device
    given: Feeds
    wanted: Arrays
    runs: int = 0
    _seen: dict[tuple[str, ...], dict[str, float]] = field(default_factory=dict)

    def parts(self, values: Sequence[Inner]) -> bool:
        """Whether a file that ends at these values gives any of them otherwise."""
        gaps = self.gaps(values)
        return any(gaps[value.name] > _tolerance(value) for value in values)

    def confirm(self, value: Inner, values: Sequence[Inner]) -> Found:
        """Run it once more, and what it is made from: each in a file that ends there."""
        above = [one for one in values if one.name in value.parents]
        is_equal_above = not any(self.parts([one]) for one in above)
        largest = self.gaps([value])[value.name]
        return Found(
            value=value.name,
            node=value.node,
            op=value.op,
            largest=largest,
            steps=value.steps,
            runs=self.runs,
            confirmed=largest > _tolerance(value) and is_equal_above,
        )

    def gaps(self, values: Sequence[Inner]) -> dict[str, float]:
        """How far each is from what it should be, computed by a file that ends at them."""
        key = tuple(value.name for value in values)
        if key not in self._seen:
            self._seen[key] = self._run(values)
        return self._seen[key]

    def _run(self, values: Sequence[Inner]) -> dict[str, float]:
        ends = list(dict.fromkeys(value.end for value in values))
        program = Program(self.inside.cut(ends), self.inside.runtime)
        session = self.device.session(program)
        feeds = {name: self.given[name] for name in session.input_names if name in self.given}
        made = dict(zip(session.output_names, session.run(feeds), strict=True))
        self.runs += 1
        return {value.name: self._gap(value, made) for value in values}

    def _gap(self, value: Inner, made: Mapping[str, np.ndarray]) -> float:
        # A file that ends at an output of the model calls it as the model does.
        found = made[value.end] if value.end in made else made[value.name]
        wanted = self.wanted[value.tensor]
        if value.grid is not None and np.issubdtype(found.dtype, np.floating):
            params = value.grid.params
            wanted = dequantize(wanted, params.scale, params.zero_point)
        return largest_gap(found, wanted, value.grid)


def _tolerance(value: Inner) -> float:
    """Integers must be equal; floats differ in their last bits."""
    return 0.0 if value.steps else value.allowed


def _frontier(values: Sequence[Inner], last: int) -> list[Inner]:
    """What has been computed up to a value, that one included, and is still read or an output."""
    read_later = {name for value in values[last + 1 :] for name in value.parents}
    read_at_all = {name for value in values for name in value.parents}
    return [
        value
        for index, value in enumerate(values[: last + 1])
        if index == last or value.name in read_later or value.name not in read_at_all
    ]
