"""The user's own files, which a build reads and never writes."""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from qcompile.compiler.config import Config, Role
from qcompile.compiler.data.options import DataSpec
from qcompile.core.errors import Code, QCompileError


def input_paths(
    source: Path,
    targets: Sequence[str | Path],
    plan: Path | None,
    config: Config,
    data: DataSpec | None,
    eval_data: DataSpec | None,
) -> list[Path]:
    """The files and folders of a build that exist.

    Args:
        source: the model; its external data are known only once it is read.
        targets: names, or paths of descriptions.
        plan: the saved plan, beside which its arrays may lie.
        config: names itself and perhaps data and labels.
        data: the calibration set as it was given.
        eval_data: the set for accuracy as it was given.
    """
    paths: list[str | Path | None] = [source, *targets, config.path]
    if plan is not None:
        paths += [plan, plan.with_suffix(".npz")]
    paths += _of_data("calibration", data, config)
    paths += _of_data("eval", eval_data, config)
    return [Path(path) for path in paths if path is not None and os.path.exists(path)]


def _of_data(role: Role, given: DataSpec | None, config: Config) -> Iterator[Path | None]:
    named = config.data_source(role, given)
    if named is not None:
        spec, options = named
        yield options.labels
        if isinstance(spec, str | Path):
            yield options.folder / spec


def check_dump_dir(folder: Path, inputs: Iterable[Path]) -> None:
    """Refuse to dump beside or into the user's files: a dump bears the name of its pass.

    Raises:
        QCompileError: OUTPUT_IS_INPUT.
    """
    there = folder.resolve()
    for path in inputs:
        holds = there.is_relative_to(path.resolve()) if path.is_dir() else there == _home(path)
        if holds:
            raise QCompileError(
                Code.OUTPUT_IS_INPUT,
                f"the folder for dumps, {folder}, is where the input {path} lies",
                hint="give the dumps a folder of their own",
            )


def _home(file: Path) -> Path:
    return file.resolve().parent
