"""Costs of operators as floats and as integers: writes the table that ``--never-slower`` reads.

``python -m tests.benchmarks.costs --target NAME > targets/costs/NAME.toml`` times them on a machine
that is one. With ``--device qemu:CPU`` instructions are counted there instead, where there is no
such machine. Chains of equal layers are built by the compiler itself; a layer costs what a long
chain takes beyond a short one, a border what one takes whose layers are integer and float in turn.
"""

import argparse
import json
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal, cast

import numpy as np
import onnx

from qcompile.compiler.api import build
from qcompile.compiler.devices import as_given, fits
from qcompile.compiler.verify.clock import time_here
from qcompile.core.target import Target
from qcompile.targets.backends import backend_of
from qcompile.targets.catalog import load_target
from qcompile.targets.cost_table import BORDER, OTHER, Unit
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Program, TimingPlan
from qcompile.targets.host import host_target, runs_here
from tests.benchmarks.chains import Case, cases

LONG: Final = 6
"""Layers of a chain; even, so that half of them are integer in the one for borders."""
SHORT: Final = 2
PLAN: Final = TimingPlan(1.5)
MOST_COUNTED: Final = 2e7
"""Work of a layer beyond which nothing is counted: emulation is slow, and instructions grow with
the work."""

MERGED: Final = 0.05
"""Share of the other form's cost below which the runtime made one layer of the chain (XNNPACK does
so with tables of integers), or a clock did not see it."""
QUIET: Final = 0.1
"""Quantile of the times that counts: of a machine that does little else."""

Row = tuple[float, float, float]
"""Work, cost as floats, cost as integers."""
Points = dict[str, list[Row]]


@dataclass(frozen=True)
class Chains:
    """The artefacts of one case by name, and what a run of each is fed."""

    case: Case
    data: dict[str, bytes] = field(default_factory=dict)
    feeds: dict[str, Mapping[str, np.ndarray]] = field(default_factory=dict)


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.costs", description=__doc__)
    parser.add_argument("--target", default=host_target())
    parser.add_argument("--device", help="an emulated CPU, on which instructions are counted")
    given = parser.parse_args()
    target = load_target(given.target)
    if given.device is None and not runs_here(target):
        print(f"this machine is not one that {target.name} is made for", file=sys.stderr)
        return 1
    points = counted(target, given.device) if given.device else timed(target)
    print(written(target, given.device, points), end="")
    return 0


def timed(target: Target) -> Points:
    """Microseconds of every case in this process, of its one thread: what interrupts a long run and
    not a short one does not count."""
    backend, points = backend_of(target.runtime), Points()
    for case in cases():
        chains = built(case, target)
        if chains is not None:
            loaded = {name: backend.open(data) for name, data in chains.data.items()}
            fed = {name: [feeds] for name, feeds in chains.feeds.items()}
            seconds = time_here(loaded, fed, PLAN, time.thread_time).seconds
            add(points, case, {n: 1e6 * float(np.quantile(s, QUIET)) for n, s in seconds.items()})
    return points


def counted(target: Target, spec: str) -> Points:
    """Instructions of every case on an emulated CPU: all in one process, whose imports are slow."""
    runtime = cast("Literal['onnxruntime', 'tflite']", target.runtime)
    found = [built(case, target) for case in cases() if case.work <= MOST_COUNTED]
    every = dict(enumerate(chains for chains in found if chains is not None))
    programs = {
        f"{i} {name}": Program(data, runtime)
        for i, chains in every.items()
        for name, data in chains.data.items()
    }
    feeds = {f"{i} {n}": fed for i, chains in every.items() for n, fed in chains.feeds.items()}
    with open_device(spec, timeout=600) as device:
        if not fits(device.info, target):
            raise SystemExit(f"{spec} is not a machine that {target.name} is made for")
        counts = device.instructions(programs, feeds)
    points = Points()
    for i, chains in every.items():
        add(points, chains.case, {name: float(counts[f"{i} {name}"]) for name in chains.data})
    return points


def built(case: Case, target: Target) -> Chains | None:
    """The chains of a case; None, and a word on stderr, where no integer kernel takes them."""
    chains, static = Chains(case), case.scheme == "w8a8"
    ends = target.activations.dtype if static else None
    common: dict[str, Any] = {"target": target.name, "latency": False}
    integer = {**common, "scheme": case.scheme, "effort": "fast", "random_data": static}
    with tempfile.TemporaryDirectory() as scratch:
        for name, layers in (("long", LONG), ("short", SHORT)):
            path = Path(scratch) / f"{name}.onnx"
            onnx.save(case.make(layers), path)
            made = build(path, ends=ends, **integer)
            if made.report.coverage.float_nodes:
                print(f"{case.kind} {case.work}: not integer there, left out", file=sys.stderr)
                return None
            chains.data[f"integer {name}"] = made.artefact
            chains.data[f"float {name}"] = build(path, scheme="float", **common).artefact
        if case.border:
            chains.data["in turns"] = _in_turns(Path(scratch) / "long.onnx", integer)
    backend, rng = backend_of(target.runtime), np.random.default_rng(1)
    (given,) = case.make(1).graph.input
    shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
    feeds = {given.name: rng.normal(size=shape).astype(np.float32)}
    for name, data in chains.data.items():
        chains.feeds[name] = as_given(feeds, backend.facts(data).ends)
    return chains


def _in_turns(model: Path, options: Mapping[str, Any]) -> bytes:
    """The chain with float ends, every second layer float: as many borders as layers."""
    plan = model.with_suffix(".plan.json")
    build(model, out=model.with_suffix(".out"), **options)
    document = json.loads(Path(f"{model.with_suffix('.out')}.plan.json").read_text())
    for name, node in document["nodes"].items():
        if int(name[1:]) % 2:  # of a layer, and of the Relu behind it
            document["nodes"][name] = {"op": node["op"], "mode": "float", "chosen": True}
    document["values"] = {
        name: value
        for name, value in document["values"].items()
        if int(name[1:]) != LONG and (value["role"] == "activation" or int(name[1:]) % 2 == 0)
    }
    plan.write_text(json.dumps(document))
    made = build(model, plan=plan, latency=False)
    assert len({int(node.name[1:]) for node in made.report.coverage.float_nodes}) == LONG // 2
    return made.artefact


def add(points: Points, case: Case, costs: Mapping[str, float]) -> None:
    """The point of a case from what its chains cost."""
    floats, integers = (
        max((costs[f"{kind} long"] - costs[f"{kind} short"]) / (LONG - SHORT), 0.0)
        for kind in ("float", "integer")
    )
    if min(floats, integers) < MERGED * max(floats, integers):
        print(f"{case.kind} {case.work}: nothing is seen of it, left out", file=sys.stderr)
        return
    print(f"{case.kind} {case.work}: {floats:.5g} {integers:.5g}", file=sys.stderr)
    points.setdefault(case.kind, []).append((case.work, floats, integers))
    if case.border:
        alone = (costs["float long"] + costs["integer long"]) / 2
        border = max((costs["in turns"] - alone) / LONG, 0.0)
        points.setdefault(BORDER, []).append((case.border, 0.0, border))


def written(target: Target, device: str | None, points: Points) -> str:
    """The table as TOML."""
    unit: Unit = "microseconds" if device is None else "instructions (emulated)"
    where = "" if device is None else f" --device {device}"
    package, name = {
        "onnxruntime": ("onnxruntime", "ONNX Runtime"),
        "tflite": ("ai-edge-litert", "LiteRT"),
    }[target.runtime]
    evidence = (
        f"python -m tests.benchmarks.costs --target {target.name}{where}: chains of {LONG} equal "
        f"layers with integer ends less those of {SHORT}, one thread, {name} {version(package)}, "
        + (
            "10th percentiles of processor time in microseconds"
            if device is None
            else "counted, not timed: no clock means anything there"
        )
    )
    lines = [f'target = "{target.name}"', f'unit = "{unit}"', f'evidence = """\n{evidence}"""']
    for kind, rows in sorted({**points, OTHER: points["add"]}.items()):
        merged = {row[0]: row for row in sorted(rows)}
        lines += ["", f"[kinds.{kind}]", f"work = {[int(work) for work in merged]}"]
        for key, index in (("float", 1), ("integer", 2)):
            lines.append(f"{key} = {[_rounded(row[index], device) for row in merged.values()]}")
    return "\n".join(lines) + "\n"


def _rounded(cost: float, device: str | None) -> float:
    return round(cost, 2) if device is None else round(cost)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    sys.exit(main())
