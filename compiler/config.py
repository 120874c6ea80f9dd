"""The project's settings: ``qcompile.toml``, or ``[tool.qcompile]`` of ``pyproject.toml``."""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from qcompile.compiler.data.options import Constant, DataOptions, DataSpec
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.compiler.genai.known import GenaiConfig
from qcompile.compiler.tables import bad_config, read_table
from qcompile.core.errors import Code, QCompileError

FILE: Final = "qcompile.toml"
PYPROJECT: Final = "pyproject.toml"
REPOSITORY_MARKS: Final = (".git", ".hg", ".svn")

Role = Literal["calibration", "eval"]


@dataclass(frozen=True)
class DataConfig:
    """``[data]``: where samples are. Paths and modules are relative to the file's folder."""

    calibration: str | None = None
    """What ``-d`` takes: a folder, a file or ``module:function``."""
    eval: str | None = None
    """The same for ``--eval``."""
    labels: Path | None = None
    """Label file of the set that accuracy is reported on: ``eval``, else ``calibration``."""
    class_names: Path | None = None
    """Text file, a class a line in the order of the output, that goes into the artefact."""
    label_pattern: str | None = None
    """Regular expression on a file's name whose first group is the class index."""
    metric: str | None = None
    """A metric of your own, ``module:function`` (see ``compiler.verify.user_metric``)."""
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    root: Path | None = None
    """Folder that the paths in a list file (.txt) are relative to, instead of the list's own."""
    limit: int | None = None
    """At most this many calibration samples, spread evenly over the set."""
    holdout: float = 0.2
    """How much of ``calibration`` is held out for accuracy when there is no ``eval``."""
    constants: Mapping[str, Constant] = field(default_factory=dict)
    """Input name -> the value it always has; a number fills the input's shape."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Input name -> smallest and largest number it is ever fed, for builds without data."""
    tokenizer: Path | None = None
    """A tokenizer.json or its folder, for data that are text and for ``--emit genai``."""
    tokens: int | None = None
    """Tokens in a sample that is cut out of a text."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise QCompileError(Code.BAD_CONFIG, f"data.limit must be at least 1, not {self.limit}")
        if self.tokens is not None and self.tokens < 2:
            raise QCompileError(
                Code.BAD_CONFIG, f"data.tokens must be at least 2, not {self.tokens}"
            )
        if not 0 < self.holdout < 1:
            raise QCompileError(
                Code.BAD_CONFIG, f"data.holdout must be between 0 and 1, not {self.holdout}"
            )
        for name, (low, high) in self.ranges.items():
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise QCompileError(
                    Code.BAD_CONFIG, f"data.ranges.{name} must be [low, high], not {[low, high]}"
                )


@dataclass(frozen=True)
class BuildConfig:
    """``[build]``: defaults of the options of ``qcompile build`` that carry the same names."""

    target: str | tuple[str, ...] | None = None
    scheme: str | None = None
    effort: str | None = None
    time_budget: float | str | None = None
    max_drop: float | None = None
    max_latency: str | None = None
    max_size: str | None = None
    max_off_target: int | None = None
    max_sram: float | str | None = None
    max_cycles: float | str | None = None
    never_slower: bool = False
    ranges: str | None = None
    io: str | None = None
    seed: int | None = None
    threads: int | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Input name -> the shape it is fixed to."""


@dataclass(frozen=True)
class Config:
    """All settings. ``path`` is the file they came from, None when there is none."""

    path: Path | None = None
    preprocess: Preprocess = field(default_factory=Preprocess)
    data: DataConfig = field(default_factory=DataConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    state: Mapping[str, str] = field(default_factory=dict)
    """``[state]``: output -> the input that takes it at the next sample (``data.state``)."""
    genai: GenaiConfig = field(default_factory=GenaiConfig)

    def with_state(self, given: Mapping[str, str] | None) -> "Config":
        """The same with further outputs fed back; what was given wins over the file."""
        return dataclasses.replace(self, state={**self.state, **(given or {})})

    @property
    def folder(self) -> Path:
        """What the file's paths are relative to: its folder, the current one without a file."""
        return self.path.parent if self.path is not None else Path()

    @property
    def class_names(self) -> Path | None:
        """The file of class names, relative to the current folder."""
        return self._below(self.data.class_names)

    def replace(self, section: Literal["preprocess", "data", "build"], **values: Any) -> "Config":
        """The same with other values in one section; None and empty ones leave what the file says.

        So flags win over the file: ``config.replace("build", target=target, seed=seed)``.
        """
        given = {key: value for key, value in values.items() if value not in (None, {}, ())}
        changed = dataclasses.replace(getattr(self, section), **given)
        return dataclasses.replace(self, **{section: changed})

    def data_source(
        self, role: Role, given: DataSpec | None = None
    ) -> tuple[DataSpec, DataOptions] | None:
        """One of the two sets, as ``open_data`` takes it.

        Args:
            role: which set.
            given: what a flag or the caller named instead of the file; relative to the current
                folder, while the file's is relative to the file.

        Returns:
            What to open and its options; None when neither names a set.

        """
        named = self.data.calibration if role == "calibration" else self.data.eval
        spec = given if given is not None else named
        if spec is None:
            return None
        judged = role == "eval" or self.data.eval is None
        return spec, DataOptions(
            labels=self._below(self.data.labels) if judged else None,
            label_pattern=self.data.label_pattern,
            include=self.data.include,
            exclude=self.data.exclude,
            limit=self.data.limit if role == "calibration" else None,
            root=self._below(self.data.root),
            constants={**dict.fromkeys(self.state.values(), 0.0), **self.data.constants},
            tokenizer=self.tokenizer,
            tokens=self.data.tokens,
            folder=Path() if given is not None else self.folder,
        )

    @property
    def tokenizer(self) -> Path | None:
        """The tokenizer, relative to the current folder."""
        return self._below(self.data.tokenizer)

    def _below(self, path: Path | None) -> Path | None:
        return None if path is None else self.folder / path


@dataclass(frozen=True)
class _Tables:
    """What may stand at the top of the file."""

    preprocess: Preprocess = field(default_factory=Preprocess)
    data: DataConfig = field(default_factory=DataConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    state: Mapping[str, str] = field(default_factory=dict)
    genai: GenaiConfig = field(default_factory=GenaiConfig)


def load_config(path: Path | None = None, start: Path | None = None) -> Config:
    """Read the settings.

    Args:
        path: the file, when it was named (``--config``).
        start: folder to search from otherwise (the current one when None): the first
            ``qcompile.toml``, or ``pyproject.toml`` with ``[tool.qcompile]``, in it or in a
            folder above, up to the root of the repository it is in.

    Returns:
        The settings; all defaults when no file is found.

    Raises:
        QCompileError: BAD_CONFIG naming the file and the key.
    """
    file = path if path is not None else find_config(start if start is not None else Path())
    if file is None:
        return Config()
    parsed = _parse(file)
    if file.name == PYPROJECT:
        parsed = parsed.get("tool", {}).get("qcompile", {})
    tables = read_table(_Tables, parsed, str(file))
    return Config(file, tables.preprocess, tables.data, tables.build, tables.state, tables.genai)


def find_config(start: Path) -> Path | None:
    """The file that holds for a folder, or None (see ``load_config``)."""
    folder = start.resolve()
    for place in (folder, *folder.parents):
        if (place / FILE).is_file():
            return place / FILE
        project = place / PYPROJECT
        if project.is_file() and "qcompile" in _parse(project).get("tool", {}):
            return project
        if any((place / mark).exists() for mark in REPOSITORY_MARKS):
            return None
    return None


def _parse(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            return tomllib.load(opened)
    except FileNotFoundError as error:
        raise QCompileError(Code.BAD_CONFIG, f"there is no configuration file {file}") from error
    except tomllib.TOMLDecodeError as error:
        raise bad_config(str(file), f"not valid TOML: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise bad_config(str(file), f"cannot be read: {error}") from error
