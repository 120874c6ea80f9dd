"""Further forms of an artefact that ``--emit`` asks for: C source, a compiled context."""

from collections.abc import Mapping, Sequence
from typing import Final

from qcompile.compiler.options import check_choice
from qcompile.core.accelerator import Offload
from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import Target

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "c": (".c", ".h"),
    "context": (".context.onnx",),
}
"""Form -> the files of it, by what follows the artefact's name."""

_NEEDS: Final[Mapping[str, str]] = {
    "c": "a target whose artefacts are TFLite files, as tflite-micro",
    "context": "a target that QNN compiles for, as ort-qnn-htp",
}


def forms_of(asked: Sequence[str] | None, targets: Sequence[Target]) -> tuple[str, ...]:
    """The forms, each once.

    Raises:
        QCompileError: BAD_OPTION for one that is not known, or that one of the targets has not.
    """
    forms = tuple(dict.fromkeys(asked or ()))
    for form in forms:
        check_choice("--emit", form, tuple(SUFFIXES))
        without = next((one for one in targets if not _has(form, one)), None)
        if without is not None:
            what = f"--emit {form}: there is none for {without.name}"
            raise QCompileError(Code.BAD_OPTION, what, hint=f"it needs {_NEEDS[form]}")
    return forms


def suffixes_of(forms: Sequence[str]) -> tuple[str, ...]:
    """What follows the artefact's name in the files of some forms."""
    return tuple(suffix for form in forms for suffix in SUFFIXES[form])


def emitted(
    forms: Sequence[str], artefact: bytes, target: Target, name: str, offload: Offload | None
) -> dict[str, bytes]:
    """The files of some forms of an artefact, by what follows its name.

    Args:
        forms: as ``forms_of`` gives them.
        artefact: the finished file.
        target: what it is for.
        name: of the file, which the C identifier is made of.
        offload: what is known of it; the arena that it needs among that.

    Raises:
        QCompileError: MISSING_EXTRA; ACCELERATOR_REFUSED with the words of the tool.
    """
    made: dict[str, bytes] = {}
    if "c" in forms:
        made |= _c(artefact, target, name, offload)
    if "context" in forms:
        from qcompile.targets.qnn.tool import Qnn

        made[SUFFIXES["context"][0]] = Qnn().context(artefact, target)
    return made


def _c(artefact: bytes, target: Target, name: str, offload: Offload | None) -> dict[str, bytes]:
    from qcompile.targets.tflm.c_array import c_header, c_source

    stem = name.removesuffix(".tflite")
    what = f"{name} for {target.name}"
    arena = None if offload is None else offload.estimates.get("arena_bytes")
    source, header = SUFFIXES["c"]
    return {
        source: c_source(artefact, stem, what),
        header: c_header(artefact, stem, what, None if arena is None else int(arena)),
    }


def _has(form: str, target: Target) -> bool:
    if form == "c":
        return target.runtime == "tflite"
    return target.accelerator is not None and target.accelerator.tool == "qnn"
