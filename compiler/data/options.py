"""What may be said about a set of samples besides where it is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

DataSpec = str | Path | Callable[[], Any] | Mapping[str, Any] | Sequence[Any] | np.ndarray
"""What can be opened; see ``open_data``."""

Constant = bool | int | float | tuple[object, ...]
"""A number that fills an input, or the nested values of the input."""


@dataclass(frozen=True)
class DataOptions:
    """Options of ``open_data``; most come from ``[data]`` of qcompile.toml."""

    labels: Path | None = None
    """Label file (``labels.read_labels``); wins over every other source of labels."""
    label_pattern: str | None = None
    """Regular expression on a file's name (``labels.label_by_pattern``)."""
    include: tuple[str, ...] = ()
    """Shell patterns of the files to take; all when empty."""
    exclude: tuple[str, ...] = ()
    """Shell patterns of the files to leave."""
    limit: int | None = None
    """At most this many samples, spread evenly over the set; of an iterator the first."""
    root: Path | None = None
    """What the paths in a list file are relative to; the list's folder when None."""
    constants: Mapping[str, Constant] = field(default_factory=dict)
    """Values of inputs that data do not give."""
    tokenizer: Path | None = None
    """A tokenizer.json or its folder: then .txt files are texts (``text.text_sources``)."""
    tokens: int | None = None
    """Tokens in a sample that is cut out of a text."""
    folder: Path = field(default_factory=Path)
    """What the set's own path or module is relative to; the current folder by default."""
