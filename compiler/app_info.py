"""Gathers what an app must know of a model from its configuration and the file of class names."""

from pathlib import Path

from qcompile.compiler.config import Config
from qcompile.compiler.data.layout import picture_input
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.app_info import AppInfo, AppInput
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Signature, TensorSpec


def gather_app_info(
    config: Config, signature: Signature, class_names: Path | None
) -> AppInfo | None:
    """What the settings say of the ends of a model.

    Args:
        config: its ``[preprocess]`` says how an input is made; one that says nothing tells nothing.
        signature: of the float model.
        class_names: file with a class a line, for the one output whose last axis has as many.

    Returns:
        None when there is nothing to tell.

    Raises:
        QCompileError: BAD_LABELS for a file that cannot be read or fits no output; BAD_CONFIG when
            it cannot be told where the input has its channels.
    """
    inputs = {}
    spec = preprocessed_input(config.preprocess, signature)
    if spec is not None:
        inputs[spec.name] = _app_input(config.preprocess, spec)
    names = {}
    if class_names is not None:
        given = read_class_names(class_names)
        names[_named_output(signature, given, class_names)] = given
    return AppInfo(inputs, names) if inputs or names else None


def read_class_names(path: Path) -> tuple[str, ...]:
    """The lines of a text file, without blank ones at its end.

    Raises:
        QCompileError: DATA_NOT_FOUND, DATA_UNREADABLE, or BAD_LABELS for an empty one.
    """
    if not path.is_file():
        raise QCompileError(Code.DATA_NOT_FOUND, f"there is no file of class names {path}")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").split("\n")]
    except (OSError, UnicodeDecodeError) as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{path} cannot be read: {error}") from error
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise QCompileError(Code.BAD_LABELS, f"{path} holds no class names")
    return tuple(lines)


def _named_output(signature: Signature, names: tuple[str, ...], path: Path) -> str:
    fitting = [o.name for o in signature.outputs if o.shape and o.shape[-1] == len(names)]
    if len(fitting) == 1:
        return fitting[0]
    which = "no output" if not fitting else f"each of the outputs {', '.join(fitting)}"
    raise QCompileError(
        Code.BAD_LABELS,
        f"{path} names {len(names)} classes, and {which} has as many along its last axis",
        hint="one class a line, in the order of the output",
    )


def preprocessed_input(preprocess: Preprocess, signature: Signature) -> TensorSpec | None:
    """The input that the settings are for; None where they say nothing, or it cannot be told."""
    if preprocess == Preprocess():
        return None
    named = [s for s in signature.inputs if s.name == preprocess.input]
    pictures = [s for s in signature.inputs if s.shape is not None and len(s.shape) == 4]
    for found in (named, signature.inputs, pictures):
        if len(found) == 1:
            return found[0]
    return None


def _app_input(preprocess: Preprocess, spec: TensorSpec) -> AppInput:
    # (x * scale - mean) / std = (x - mean / scale) / (std / scale)
    scale = preprocess.scale
    return AppInput(
        mean=tuple(m / scale for m in _several(preprocess.mean)),
        std=tuple(s / scale for s in _several(preprocess.std)),
        color=_color(preprocess, spec),
        resize=tuple(map(int, _several(preprocess.resize))),
        filter=preprocess.filter if preprocess.resize is not None else "",
        crop=tuple(map(int, _several(preprocess.crop))),
    )


def _color(preprocess: Preprocess, spec: TensorSpec) -> str:
    if spec.shape is None or len(spec.shape) != 4:
        return ""
    try:
        channels = picture_input(spec, preprocess.layout).channels
    except QCompileError:
        return ""  # four dimensions that are no picture's
    if channels not in (1, 3):
        return ""
    if preprocess.color != "auto":
        return preprocess.color
    return "gray" if channels == 1 else "rgb"


def _several(value: float | tuple[float, ...] | None) -> tuple[float, ...]:
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (float(value),)
