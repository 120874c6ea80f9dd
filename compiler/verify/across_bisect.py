"""Finds the first operator that parts on a device that keeps no inner values, by cutting the file.

A delegate or a fusion hides what is inside, and an inner value made an output may change what is
fused. So the artefact is cut: a file that ends at a frontier of inner values computes all before
it as the whole does. In the order of the graph the frontier after value i is all that has been
computed by then and is still read; while a frontier is equal, whatever parts comes later. Binary
search then needs no order among the differences: it keeps an equal frontier below and an unequal
one above until they are neighbours, and the value between them is the first that parts. A last
run, of that value and what it is made from, confirms it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompile.compiler.report.devices import Found
from qcompile.compiler.verify.gap import largest_gap
from qcompile.compiler.verify.inside import Arrays, Feeds, Inner, Inside
from qcompile.targets.devices.device import Device, Program


def bisect(
    inside: Inside, device: Device, given: Feeds, wanted: Arrays, last: str | None = None
) -> Found | None:
    """The first operator whose result parts on one sample; None when no inner value does.

    Args:
        inside: the artefact.
        device: where it runs.
        given: a sample on which an output differs, or the value ``last``.
        wanted: what all values should be on it.
        last: an inner value behind which nothing needs to be looked at; None for the outputs.

    Raises:
        QCompileError: what devices raise, RUNTIME_REFUSED for a cut file among them.
    """
    search = _Search(inside, device, given, wanted)
    values = [value for value in inside.values if value.tensor in wanted]
    names = [value.name for value in values]
    values = values[: names.index(last) + 1] if last in names else values
    equal, parted = -1, len(values) - 1
    if not values or not search.parts(_frontier(values, parted)):
        return None
    while parted - equal > 1:
        middle = (equal + parted) // 2
        if search.parts(_frontier(values, middle)):
            parted = middle
        else:
            equal = middle
    value = values[parted]
    by_name = {one.name: one for one in values}
    above = [by_name[name] for name in sorted(value.parents) if name in by_name]
    gaps = search.gaps([*above, value])
    largest = gaps.pop(value.name)
    return Found(
        value=value.name,
        node=value.node,
        op=value.op,
        largest=largest,
        steps=value.steps,
        runs=search.runs,
        confirmed=largest > _tolerance(value)
        and all(gap <= _tolerance(by_name[name]) for name, gap in gaps.items()),
    )


@dataclass
class _Search:
    inside: Inside
    device: Device
    given: Feeds
    wanted: Arrays
    runs: int = 0
    _seen: dict[tuple[str, ...], bool] = field(default_factory=dict)

    def parts(self, values: Sequence[Inner]) -> bool:
        """Whether a file that ends at these values gives any of them otherwise."""
        key = tuple(value.name for value in values)
        if key not in self._seen:
            gaps = self.gaps(values)
            self._seen[key] = any(gaps[value.name] > _tolerance(value) for value in values)
        return self._seen[key]

    def gaps(self, values: Sequence[Inner]) -> dict[str, float]:
        """How far each is from what it should be, computed by a file that ends at them."""
        tensors = list(dict.fromkeys(value.tensor for value in values))
        program = Program(self.inside.cut(tensors), self.inside.runtime)
        session = self.device.session(program)
        feeds = {name: self.given[name] for name in session.input_names if name in self.given}
        made = dict(zip(session.output_names, session.run(feeds), strict=True))
        self.runs += 1
        return {value.name: _gap(value, made, self.wanted) for value in values}


def _gap(value: Inner, made: Mapping[str, np.ndarray], wanted: Arrays) -> float:
    # A file that ends at an output of the model calls it as the model does.
    found = made[value.tensor] if value.tensor in made else made[value.name]
    return largest_gap(found, wanted[value.tensor], value.grid)


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
