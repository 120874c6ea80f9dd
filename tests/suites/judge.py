"""Builds a case for a target and says what became of it: integer, float, refused, or wrong."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import onnx

import qcompile
from qcompile.compiler.finish import BuildResult
from qcompile.compiler.verify.metrics import sqnr_between
from qcompile.core.backend import Backend
from qcompile.core.ends import FloatEnds
from qcompile.core.errors import Code, QCompileError
from qcompile.targets.backends import backend_of
from qcompile.targets.catalog import load_target
from tests.suites.cases import SAMPLES, Case

MODEL: Final = "model.onnx"
FLOOR_DB: Final = 15.0
"""Least SQNR of a float output under w8a8."""
EQUAL: Final = 0.8
"""Least share of equal elements of an output of integers or truths under w8a8."""
CLOSE: Final = 1e-4
"""Largest difference from ONNX's own outputs under ``float``, over their largest magnitude."""


@dataclass(frozen=True)
class Outcome:
    """What became of one case under one scheme."""

    case: str
    kind: str
    """``integer``, ``float`` (built, nothing became integer), a code's slug, or ``wrong``."""
    text: str = ""

    @property
    def failed(self) -> bool:
        """Whether it is one that must not be."""
        return self.kind == "wrong"


def judge(case: Case, target: str, scheme: str, folder: Path, count: int = SAMPLES) -> Outcome:
    """Build a case and compare what it gives with ONNX's outputs."""
    path = folder / MODEL
    onnx.save(case.model, str(path))
    samples = case.samples(count)
    try:
        result = qcompile.build(
            path,
            target=target,
            data=samples,
            eval_data=samples,
            scheme=scheme,
            effort="fast",
            latency=False,
        )
    except QCompileError as error:
        return refused(case, error)
    except Exception as error:
        return Outcome(case.name, "wrong", f"traceback {type(error).__name__}: {error}")
    faults = found_faults(case, result, target, scheme)
    if faults:
        return Outcome(case.name, "wrong", "; ".join(faults))
    return Outcome(case.name, "integer" if result.report.coverage.integer else "float")


def examine(folder: Path, target: str) -> str:
    """What goes wrong when the case that was judged last is inspected; empty where nothing does."""
    try:
        qcompile.inspect(folder / MODEL, target=target)
    except QCompileError as error:
        return "inspect ends in INTERNAL" if error.code is Code.INTERNAL else ""
    except Exception as error:
        return f"inspect ends in {type(error).__name__}: {error}"
    return ""


def refused(case: Case, error: QCompileError) -> Outcome:
    """A refusal, which must name a node, an op or a value; one of the whole model the file."""
    graph = case.model.graph
    values = [v.name for v in (*graph.input, *graph.output)]
    names = {*values, *(n.op_type for n in graph.node), *(n.name for n in graph.node)} - {""}
    told = any(re.search(rf"\b{re.escape(name)}\b", error.message) for name in names)
    if error.code is Code.INTERNAL or (error.node is None and not told):
        return Outcome(case.name, "wrong", str(error))
    return Outcome(case.name, error.code.slug, str(error))


def found_faults(case: Case, result: BuildResult, target: str, scheme: str) -> list[str]:
    """What is wrong with an artefact: on the case's own inputs, then on all samples."""
    backend: Backend = backend_of(load_target(target).runtime)
    session = FloatEnds(backend.open(result.artefact), backend.facts(result.artefact).ends)
    if not case.expected:
        return accuracy_faults(result)
    given = {name: x for name, x in case.feeds.items() if name in session.input_names}
    outputs = dict(zip(session.output_names, session.run(given), strict=True))
    faults = []
    for value, expected in zip(case.model.graph.output, case.expected, strict=False):
        if value.name not in outputs:
            faults.append(f"no output {value.name}: {list(outputs)}")
            continue
        faults += compare(f"{value.name}", expected, outputs[value.name], scheme)
    return faults + accuracy_faults(result)


def accuracy_faults(result: BuildResult) -> list[str]:
    """What the report says of the artefact beside the float model is not enough."""
    faults = []
    accuracy = result.report.accuracy
    for quality in () if accuracy is None else accuracy.outputs:
        if quality.sqnr_db is not None and quality.sqnr_db < FLOOR_DB:
            faults.append(f"{quality.name}: {quality.sqnr_db:.1f} dB over all samples")
        if quality.equal is not None and quality.equal < EQUAL:
            faults.append(f"{quality.name}: {quality.equal:.0%} equal over all samples")
    return faults


def compare(name: str, expected: np.ndarray, found: np.ndarray, scheme: str) -> list[str]:
    if expected.shape != found.shape:
        return [f"{name} has shape {found.shape}, not {expected.shape}"]
    if expected.dtype != found.dtype:
        return [f"{name} is {found.dtype}, not {expected.dtype}"]
    if not np.issubdtype(expected.dtype, np.floating):
        share = float(np.mean(expected == found)) if expected.size else 1.0
        least = 1.0 if scheme == "float" else EQUAL
        return [] if share >= least else [f"{name}: {share:.0%} equal"]
    if scheme == "float":
        finite = np.isfinite(expected)
        if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
            return [f"{name} is not finite elsewhere"]
        largest = float(np.abs(expected[finite]).max(initial=0.0))
        worst = float(np.abs(expected[finite] - found[finite]).max(initial=0.0))
        return (
            [] if worst <= CLOSE * max(largest, 1e-30) else [f"{name}: {worst / largest:.1e} off"]
        )
    found_db = sqnr_between(expected, found)
    return [] if found_db >= FLOOR_DB else [f"{name}: {found_db:.1f} dB"]
