"""The files of a build: what they are called, and what is written into each."""

from collections.abc import Sequence

from qcompile.compiler.emit import emitted
from qcompile.compiler.finish import BuildResult
from qcompile.compiler.options import BuildOptions
from qcompile.compiler.output import PLAN, PLAN_ARRAYS, PORTABLE, REPORT, OutputSet
from qcompile.compiler.report.json_view import report_json
from qcompile.core.plan_file import to_arrays, to_json
from qcompile.core.target import Target
from qcompile.targets.backends import backend_of


def portable_suffix(target: Target) -> str:
    """What follows the artefact's name in the file that it was compiled from, where that is kept;
    empty for a target whose runtime runs the artefact itself.
    """
    replaced = target.accelerator is not None and target.accelerator.replaces
    return f"{PORTABLE}{backend_of(target.runtime).suffix}" if replaced else ""


def artefact_suffix(target: Target) -> str:
    """What follows the model's name in the file for one of several targets."""
    return f".{target.name}{backend_of(target.runtime).suffix}"


def file_name(out: OutputSet | None, target: Target, *, several: bool) -> str:
    """Name of a target's artefact; empty when none is written.

    Args:
        out: the files.
        target: what the artefact is for.
        several: whether the files bear the name of their target.
    """
    return "" if out is None else out.path(artefact_suffix(target) if several else "").name


def write_files(
    out: OutputSet, results: Sequence[BuildResult], options: BuildOptions, *, several: bool
) -> None:
    """Write everything; the files appear together, or none does.

    Args:
        out: the files.
        results: one a target.
        options: of the build.
        several: whether the files bear the name of their target.

    Raises:
        QCompileError: OUTPUT_UNWRITABLE; see ``emit.emitted``.
    """
    with out:
        for target, result in zip(options.targets, results, strict=True):
            start = artefact_suffix(target) if several else ""
            out.write(start, result.artefact)
            if result.portable is not None:
                out.write(start + portable_suffix(target), result.portable)
            name, offload = file_name(out, target, several=several), result.report.offload
            forms = emitted(options.emit, result.artefact, target, name, offload, options.known)
            for end, data in forms.items():
                if start + end in out:  # what lies there already is the user's own
                    out.write(start + end, data)
            out.write(start + REPORT, report_json(result.report).encode())
            out.write(start + PLAN, to_json(result.plan))
            out.write(start + PLAN_ARRAYS, to_arrays(result.plan))
        out.commit()
