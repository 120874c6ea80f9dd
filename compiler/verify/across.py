"""The same inputs on several machines: where their results part from what they should be.

The reference is ours, computed in this process: neither another machine nor ONNX Runtime without
its optimizer is one. Each device runs the artefact as it is, and once more with its inner values as
outputs, which tells for each operator whether it is the one that parts or only hands on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from qcompile.compiler.diff.side import Grid
from qcompile.compiler.progress import Counter
from qcompile.compiler.report.devices import Across, AcrossDevice, Gap, Verdict
from qcompile.compiler.verify.across_bisect import bisect
from qcompile.compiler.verify.gap import largest_gap, unequal
from qcompile.compiler.verify.inside import Arrays, Inner, Inside, ReferenceRun
from qcompile.core.errors import Code, QCompileError
from qcompile.core.executor import Feeds, Session
from qcompile.targets.devices.device import Device, Program

REFERENCE = "our integer reference"


def compare_across(
    inside: Inside,
    devices: Sequence[Device],
    feeds: Sequence[Feeds],
    counter: Counter,
    *,
    search: bool = False,
) -> Across:
    """Run an artefact on devices and hold every value against the reference's.

    Args:
        inside: the artefact.
        devices: where it runs.
        feeds: samples as the artefact takes them.
        counter: is advanced by one a sample and device.
        search: on a device whose outputs differ, find the first operator that parts by cutting the
            artefact. Where the inside cannot be watched that is done anyway.

    Raises:
        QCompileError: what devices raise. One that takes no inputs (a runner that only times)
            is left out.
    """
    reference = inside.reference()
    machines = [one for device in devices for one in _opened(inside, device)]
    for given in feeds:
        wanted = reference.run(given)
        for machine in machines:
            machine.compare(given, wanted)
            counter.advance()
    return Across(
        reference=REFERENCE,
        rule=reference.rule,
        samples=len(feeds),
        devices=tuple(machine.result(reference, search=search) for machine in machines),
    )


def _opened(inside: Inside, device: Device) -> "list[_Machine]":
    try:
        return [_Machine(inside, device)]
    except QCompileError as error:
        if error.code is not Code.DEVICE_UNFIT:
            raise
        return []


@dataclass
class _Tally:
    """What was seen of one value so far."""

    steps: bool
    largest: float = 0.0
    own: float = 0.0
    differ: int = 0
    total: int = 0

    def add(self, found: np.ndarray, wanted: np.ndarray, grid: Grid | None, *, alone: bool) -> bool:
        """Compare once; ``alone`` when all that it is made from is equal. Whether it is equal."""
        count = unequal(found, wanted)
        if count:
            gap = largest_gap(found, wanted, grid)
            self.largest = max(self.largest, gap)
            self.own = max(self.own, gap) if alone else self.own
        self.differ += count
        self.total += wanted.size
        return count == 0

    @property
    def share(self) -> float:
        """Of the elements that differ."""
        return self.differ / self.total if self.total else 0.0


@dataclass
class _Machine:
    """One device with the artefact loaded: as it is, and with its inside exposed."""

    inside: Inside
    device: Device
    outputs: dict[str, _Tally] = field(default_factory=dict)
    tallies: dict[str, _Tally] = field(default_factory=dict)
    parted: Feeds | None = None
    """The sample on which an output differs most, else the first on which an inner value does."""
    by: float = 0.0
    """How far its outputs are off, the sum over them."""
    last: str | None = None
    """The last inner value that differs on it, where no output does."""
    no_layers: str = ""
    """Why the inner values were not looked at, or say nothing of the artefact as it is."""

    def __post_init__(self) -> None:
        runtime = self.inside.runtime
        self.plain = self.device.session(Program(self.inside.data, runtime))
        tensors = list(dict.fromkeys(value.tensor for value in self.inside.values))
        self.tapped: Session | None = None
        try:
            self.tapped = self.device.session(Program(self.inside.exposed(tensors), runtime))
        except QCompileError as error:
            if error.code is not Code.RUNTIME_REFUSED:
                raise
            self.no_layers = f"inner values cannot be read: {error.message}"

    def compare(self, given: Feeds, wanted: Arrays) -> None:
        """One sample."""
        made = _named(self.plain, given)
        by = 0.0
        for name, array in made.items():
            grid = self._output_grid(name)
            integer = not np.issubdtype(array.dtype, np.floating)
            tally = self.outputs.setdefault(name, _Tally(grid is not None or integer))
            if not tally.add(array, wanted[name], grid, alone=False):
                by += largest_gap(array, wanted[name], grid)
        last = None
        if self.tapped is not None:
            last = self._look_inside(_named(self.tapped, given), made, wanted)
        if by > self.by:
            self.parted, self.last, self.by = given, None, by
        elif last is not None and self.parted is None:
            self.parted, self.last = given, last

    def _look_inside(self, inner: Arrays, plain: Arrays, wanted: Arrays) -> str | None:
        """Compare every inner value; the last one that differs."""
        changed = [name for name in plain if self._moved(name, inner[name], plain[name])]
        if changed:
            self.no_layers = (
                f"with its inner values as outputs it computes another {changed[0]}, so they are "
                "not those of the artefact as it is"
            )
        same: dict[str, bool] = {}
        for value in self.inside.values:
            if value.tensor not in wanted or value.tensor not in inner:
                continue
            tally = self.tallies.setdefault(value.name, _Tally(value.steps))
            alone = all(same.get(parent, True) for parent in value.parents)
            found, right = inner[value.tensor], wanted[value.tensor]
            same[value.name] = tally.add(found, right, value.grid, alone=alone)
        return next((name for name in reversed(same) if not same[name]), None)

    def _moved(self, name: str, exposed: np.ndarray, plain: np.ndarray) -> bool:
        """Whether an output changed by more than the last bits of floats."""
        grid = self._output_grid(name)
        return largest_gap(exposed, plain, grid) > (0.0 if grid is not None else _LAST_BITS)

    def _output_grid(self, name: str) -> Grid | None:
        """How an output is quantized, though it be handed out in floats."""
        value = self.inside.output_value(name)
        return None if value is None else value.grid

    def _value_name(self, output: str) -> str:
        value = self.inside.output_value(output)
        return output if value is None else value.name

    def result(self, reference: ReferenceRun, *, search: bool) -> AcrossDevice:
        """What all samples have shown."""
        found = None
        if self.parted is not None and (search or self.no_layers):
            wanted = reference.run(self.parted)
            found = bisect(self.inside, self.device, self.parted, wanted, self.last)
        values = {value.name: value for value in self.inside.values}
        layers = (
            () if self.no_layers else tuple(_gap(values[n], t) for n, t in self.tallies.items())
        )
        by_name = {gap.value: gap for gap in layers}
        return AcrossDevice(
            spec=self.device.info.spec,
            outputs=tuple(
                _output(name, tally, by_name.get(self._value_name(name)))
                for name, tally in self.outputs.items()
            ),
            layers=layers,
            no_layers=self.no_layers,
            found=found,
        )


_LAST_BITS = 1e-5
"""Share of the largest number by which float outputs may move when less of a graph is fused."""


def _gap(value: Inner, tally: _Tally) -> Gap:
    return Gap(
        value=value.name,
        node=value.node,
        op=value.op,
        verdict=_verdict(tally, value.allowed),
        largest=tally.largest,
        share=tally.share,
        allowed=value.allowed,
        own=tally.own,
        steps=value.steps,
    )


def _verdict(tally: _Tally, allowed: float) -> Verdict:
    if tally.differ == 0:
        return "equal"
    if tally.own > allowed:
        return "parts"
    return "allowed" if tally.own > 0 else "follows"


def _output(name: str, tally: _Tally, inner: Gap | None) -> Gap:
    """An output of the artefact as it is, judged as the inner value of its name if there is one."""
    verdict: Verdict = "equal" if tally.differ == 0 else "follows"
    if inner is not None and verdict != "equal":
        verdict = inner.verdict if inner.verdict != "equal" else verdict
    return Gap(
        value=name,
        node=inner.node if inner is not None else "",
        op=inner.op if inner is not None else "",
        verdict=verdict,
        largest=tally.largest,
        share=tally.share,
        allowed=inner.allowed if inner is not None else 0.0,
        own=inner.own if inner is not None else 0.0,
        steps=tally.steps,
    )


def _named(session: Session, given: Feeds) -> Arrays:
    feeds = {name: given[name] for name in session.input_names}
    return dict(zip(session.output_names, session.run(feeds), strict=True))
