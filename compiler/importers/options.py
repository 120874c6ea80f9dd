"""What an importer of another format than ONNX is told, and what it gives back."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from qcompile.core.notes import Note


@dataclass(frozen=True)
class ImportOptions:
    """What the user says about reading a model."""

    trust: bool = False
    """Take files that can run code of their own when they are loaded."""
    signature: str | None = None
    """Which signature of a model that has several."""
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Input name -> full shape, where a format needs it to be read at all."""


@dataclass(frozen=True)
class Converted:
    """An ONNX file that an importer made."""

    onnx: Path
    """In the folder that the importer was given."""
    files: tuple[Path, ...]
    """The user's files that it was made of."""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Format:
    """One format that is not ONNX."""

    name: str
    fits: Callable[[str], bool]
    """Whether a model as the user named it is of this format; reads a few bytes at most."""
    convert: Callable[[str, Path, ImportOptions], Converted]
    """Writes an ONNX file into a folder. Frameworks run in a process of their own."""
