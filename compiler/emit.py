"""Further forms of an artefact that ``--emit`` asks for: C source, a compiled context, a folder
that onnxruntime-genai runs.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from qcompile.compiler.genai.known import CONFIG, TOKENIZER_CONFIG, Known
from qcompile.compiler.options import check_choice
from qcompile.compiler.output import BESIDE
from qcompile.core.accelerator import Offload
from qcompile.core.errors import Code, QCompileError
from qcompile.core.target import Target

GENAI: Final = "genai"
"""A folder that onnxruntime-genai runs: its files have names of their own."""

SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "c": (".c", ".h"),
    "context": (".context.onnx",),
    GENAI: (),
}
"""Form -> the files of it, by what follows the artefact's name."""

_NEEDS: Final[Mapping[str, str]] = {
    "c": "a target whose artefacts are TFLite files, as tflite-micro",
    "context": "a target that QNN compiles for, as ort-qnn-htp",
    GENAI: "one target of ONNX Runtime on a CPU, as ort-x86-avx2",
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
    if GENAI in forms and len(targets) > 1:
        what = "--emit genai: the folder is of one artefact, and there are several targets"
        raise QCompileError(Code.BAD_OPTION, what, hint=f"it needs {_NEEDS[GENAI]}")
    return forms


def suffixes_of(forms: Sequence[str]) -> tuple[str, ...]:
    """What follows the artefact's name in the files of some forms."""
    return tuple(suffix for form in forms for suffix in SUFFIXES[form])


def emitted(
    forms: Sequence[str],
    artefact: bytes,
    target: Target,
    name: str,
    offload: Offload | None,
    known: Known | None = None,
) -> dict[str, bytes]:
    """The files of some forms of an artefact, by what follows its name.

    Args:
        forms: as ``forms_of`` gives them.
        artefact: the finished file.
        target: what it is for.
        name: of the file, which the C identifier is made of.
        offload: what is known of it; the arena that it needs among that.
        known: of a language model, for the form ``genai``.

    Raises:
        QCompileError: MISSING_EXTRA; ACCELERATOR_REFUSED with the words of the tool.
    """
    made: dict[str, bytes] = {}
    if "c" in forms:
        made |= _c(artefact, target, name, offload)
    if "context" in forms:
        from qcompile.targets.qnn.tool import Qnn

        made[SUFFIXES["context"][0]] = Qnn().context(artefact, target)
    if GENAI in forms and known is not None:
        made |= _genai(artefact, target, name, known)
    return made


def genai_suffixes(known: Known, out: Path) -> tuple[str, ...]:
    """The files of the form ``genai`` in the folder of an artefact, less those that lie there."""
    names = dict.fromkeys((CONFIG, TOKENIZER_CONFIG, *known.files))
    there = {path.resolve() for path in known.paths}
    return tuple(BESIDE + n for n in names if out.with_name(n).resolve() not in there)


def _genai(artefact: bytes, target: Target, name: str, known: Known) -> dict[str, bytes]:
    from qcompile.compiler.genai.folder import genai_files
    from qcompile.core.signature import Signature
    from qcompile.targets.backends import backend_of

    facts = backend_of(target.runtime).facts(artefact)
    files = genai_files(known, artefact, Signature(facts.inputs, facts.outputs), name)
    return {BESIDE + file: data for file, data in files.items()}


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
    if form == GENAI:
        return target.runtime == "onnxruntime" and target.accelerator is None
    return target.accelerator is not None and target.accelerator.tool == "qnn"
