"""What an app must know of a model that the graph does not say: how its inputs are made, and what
its outputs' positions stand for. Carried by a graph, and in every artefact, as JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

APP_KEY: Final = "qcompile.app"
"""metadata_props key of a QDQ graph and of an ONNX artefact."""


@dataclass(frozen=True)
class AppInput:
    """How an input is made of raw numbers ``x``, bytes of a picture for one: (x - mean) / std."""

    mean: tuple[float, ...] = (0.0,)
    """One number, or one a channel."""
    std: tuple[float, ...] = (1.0,)
    color: str = ""
    """``rgb``, ``bgr`` or ``gray`` for a picture; empty for what is none."""
    resize: tuple[int, ...] = ()
    """Before all else: the shorter side, or height and width."""
    filter: str = ""
    """Of resizing."""
    crop: tuple[int, ...] = ()
    """From the centre, after resizing: side of a square, or height and width."""


@dataclass(frozen=True)
class AppInfo:
    """What an app must know."""

    inputs: Mapping[str, AppInput] = field(default_factory=dict)
    """Of inputs that are made of raw numbers by rule."""
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Output -> what each position along its last axis stands for."""

    def to_json(self) -> str:
        """One line of JSON, equal for equal contents."""
        return json.dumps(asdict(self), sort_keys=True, ensure_ascii=False, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "AppInfo | None":
        """Read ``to_json``'s text; None for anything else: an artefact may come from anyone."""
        try:
            read = json.loads(text)
            inputs = {name: _input(entry) for name, entry in read["inputs"].items()}
            names = {output: tuple(map(str, n)) for output, n in read["class_names"].items()}
            return cls(inputs, names)
        except (ValueError, KeyError, TypeError, AttributeError):
            return None

    def sentences(self) -> list[str]:
        """What it says, for a reader."""
        return [
            *(f"input {name!r}: {_of_input(made)}" for name, made in self.inputs.items()),
            *(f"output {name!r}: {_of_names(names)}" for name, names in self.class_names.items()),
        ]


def _input(entry: Mapping[str, object]) -> AppInput:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
    return AppInput(**values)  # type: ignore[arg-type]


def _of_input(made: AppInput) -> str:
    parts = []
    if made.color:
        parts.append(f"{made.color} pictures")
    if made.resize:
        parts.append(f"resized to {_size(made.resize)} ({made.filter})")
    if made.crop:
        parts.append(f"{_size(made.crop)} cut from the centre")
    parts.append(_affine(made))
    return ", ".join(parts)


def _affine(made: AppInput) -> str:
    if not any(made.mean) and all(std == 1 for std in made.std):
        return "raw numbers as they are"
    if all(std == 1 for std in made.std):
        return f"x - {_numbers(made.mean)}"
    return f"(x - {_numbers(made.mean)}) / {_numbers(made.std)}"


def _size(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _numbers(values: tuple[float, ...]) -> str:
    texts = [f"{v:.6g}" for v in values]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _of_names(names: tuple[str, ...]) -> str:
    few = ", ".join(names[:3])
    return f"{len(names)} classes: {few}" + (", ..." if len(names) > 3 else "")
