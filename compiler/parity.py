"""Says in the reports of one build how far the artefacts of its targets lie apart."""

from dataclasses import replace
from typing import Final

from qcompile.compiler.finish import BuildResult
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.progress import Progress
from qcompile.compiler.samples import FeedsOf, Samples
from qcompile.compiler.verify.parity import compare_artefacts
from qcompile.core.ends import FloatEnds
from qcompile.core.executor import Session
from qcompile.core.notes import Note
from qcompile.targets.backends import backend_of

PARITY_SAMPLES: Final = 64
"""Samples on which the artefacts of one build are held against each other."""


def with_parity(
    results: list[BuildResult], options: BuildOptions, samples: Samples, progress: Progress
) -> list[BuildResult]:
    """The results with a note in each report; as they are where there is one, or no samples.

    Args:
        results: one a target.
        options: of the build.
        samples: those that judge are taken, else those of calibration.
        progress: told of the stage.
    """
    data = samples.judged if samples.judged is not None else samples.calibration
    if len(results) < 2 or data is None:
        return results
    with progress.stage("compare the artefacts"):
        feeds = FeedsOf(data)[:PARITY_SAMPLES]
        sessions: dict[str, Session] = {}
        for target, result in zip(options.targets, results, strict=True):
            backend, model = backend_of(target.runtime), result.portable or result.artefact
            kernels = "default" if target.accelerator is None else target.accelerator.kernels
            opened = backend.open(model, exact=True, kernels=kernels)
            sessions[target.name] = FloatEnds(opened, backend.facts(model).ends)
        found = compare_artefacts(sessions, feeds, threads=options.scheme.threads)
    notes = tuple(Note("info", str(parity)) for parity in found)
    return [replace(r, report=replace(r.report, notes=(*r.report.notes, *notes))) for r in results]
