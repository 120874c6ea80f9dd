"""Runs TFLite models under LiteRT (``core.executor.Session``)."""

import contextlib
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from qcompile.core.errors import Code, QCompileError

Kernels = Literal["xnnpack", "builtin", "reference"]
"""``xnnpack``: what an app gets; ``builtin``: the optimized kernels alone; ``reference``: the plain
ones, whose integers are the same on every processor."""

_RESOLVERS: Mapping[Kernels, str] = {
    "xnnpack": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
_REMARK = "INFO:"
"""Start of the lines that LiteRT writes to the standard error for no one's use."""
_COMPILED = """\
it was compiled for an Arm Ethos-U, which nothing here executes; what it was compiled from lies \
beside it, .portable.tflite"""
_stderr_lock = threading.Lock()


def runtime_name() -> str:
    """Name and version of the runtime, for reports; a MISSING_EXTRA error where there is none."""
    try:
        return f"LiteRT {version('ai-edge-litert')}"
    except PackageNotFoundError as error:
        raise _missing() from error


def litert() -> Any:
    """The runtime's interpreter module.

    Raises:
        QCompileError: MISSING_EXTRA when the package is not installed.
    """
    try:
        from ai_edge_litert import interpreter  # heavy: only who runs a model loads it
    except ImportError as error:
        raise _missing() from error
    return interpreter


def open_interpreter(
    artefact: bytes | Path,
    kernels: Kernels = "xnnpack",
    *,
    threads: int = 1,
    keep_all: bool = False,
    one_by_one: bool = False,
) -> Any:
    """LiteRT's own interpreter, with its tensors allocated.

    Args:
        artefact: the model, its bytes or its path.
        kernels: which kernels run it.
        threads: threads that one run may use.
        keep_all: keep every tensor readable after a run, not only the outputs.
        one_by_one: hand operators to the delegate one by one, so that each can be told apart.

    Raises:
        QCompileError: MISSING_EXTRA; RUNTIME_REFUSED with LiteRT's reason.
    """
    module = litert()
    source = {"model_path": str(artefact)} if isinstance(artefact, Path) else {}
    if isinstance(artefact, bytes):
        source = {"model_content": artefact}  # type: ignore[dict-item]
    try:
        with _quiet(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that keeping every tensor takes memory
            made = module.Interpreter(
                **source,
                num_threads=threads,
                experimental_op_resolver_type=module.OpResolverType[_RESOLVERS[kernels]],
                experimental_preserve_all_tensors=keep_all,
                experimental_disable_delegate_node_fusion=one_by_one,
            )
            made.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        why = _reason(error)
        raise QCompileError(
            Code.RUNTIME_REFUSED,
            f"LiteRT does not load the model ({kernels}): {why}",
            hint=_COMPILED if "ethos-u" in why else None,
        ) from error
    return made


class TfliteSession:
    """A loaded model; ``run`` may be called from several threads at once.

    An interpreter runs one inference at a time, so each thread that runs at the same time as
    another gets one of its own, made when it is first needed.

    Args:
        artefact: the model, its bytes or its path.
        kernels: which kernels run it.
        threads: threads that one run may use.
        outputs: names of the tensors to return instead of the model's outputs.

    Raises:
        QCompileError: MISSING_EXTRA; RUNTIME_REFUSED with LiteRT's reason; BAD_OPTION for an
            output that the model has not.
    """

    def __init__(
        self,
        artefact: bytes | Path,
        kernels: Kernels = "xnnpack",
        *,
        threads: int = 1,
        outputs: Sequence[str] | None = None,
    ) -> None:
        self._artefact = artefact
        self._kernels: Kernels = kernels
        self._threads = threads
        self._keep_all = outputs is not None
        self._lock = threading.Lock()
        first = self._open()
        self._idle = [first]
        ends = _ends(first)
        self._inputs, self._outputs = ends
        if outputs is not None:
            self._outputs = _named_tensors(first, ends[1], outputs)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the inputs, in order: the signature's where there is one."""
        return tuple(self._inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the values ``run`` returns, in order."""
        return tuple(self._outputs)

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run the model once.

        Raises:
            QCompileError: RUNTIME_FAILED with LiteRT's own message.
        """
        missing = [name for name in self._inputs if name not in feeds]
        if missing:
            raise QCompileError(Code.RUNTIME_FAILED, f"input {missing[0]!r} is not given")
        interpreter = self._take()
        try:
            self._fit(interpreter, feeds)
            for name, index in self._inputs.items():
                interpreter.set_tensor(index, np.asarray(feeds[name], order="C"))
            interpreter.invoke()
            results = [interpreter.get_tensor(index) for index in self._outputs.values()]
        except (RuntimeError, ValueError) as error:
            # The interpreter is not used again: a failed run may leave it in between.
            raise QCompileError(
                Code.RUNTIME_FAILED, f"LiteRT failed while running the model: {_reason(error)}"
            ) from error
        with self._lock:
            self._idle.append(interpreter)
        return results

    def _fit(self, interpreter: Any, feeds: Mapping[str, np.ndarray]) -> None:
        """Resize inputs whose open dimensions are fed in another size than the last time."""
        wrong = [
            (detail["index"], feeds[name].shape)
            for detail, name in zip(interpreter.get_input_details(), self._inputs, strict=True)
            if tuple(detail["shape"]) != feeds[name].shape and -1 in detail["shape_signature"]
        ]
        for index, shape in wrong:
            interpreter.resize_tensor_input(index, shape, strict=True)
        if wrong:
            interpreter.allocate_tensors()

    def _open(self) -> Any:
        return open_interpreter(
            self._artefact, self._kernels, threads=self._threads, keep_all=self._keep_all
        )

    def _take(self) -> Any:
        with self._lock:
            if self._idle:
                return self._idle.pop()
        return self._open()


def _ends(interpreter: Any) -> tuple[dict[str, int], dict[str, int]]:
    """Names of the inputs and outputs -> tensors, in the graph's order."""
    signatures = interpreter._get_full_signature_list()  # the public list has names alone
    none: dict[str, dict[str, int]] = {"inputs": {}, "outputs": {}}
    first = next(iter(signatures.values()), none)

    def named(details: Sequence[Mapping[str, Any]], given: Mapping[str, int]) -> dict[str, int]:
        names = {index: name for name, index in given.items()}
        return {names.get(d["index"], d["name"]): d["index"] for d in details}

    return (
        named(interpreter.get_input_details(), first["inputs"]),
        named(interpreter.get_output_details(), first["outputs"]),
    )


def _named_tensors(
    interpreter: Any, ends: Mapping[str, int], wanted: Sequence[str]
) -> dict[str, int]:
    known = {detail["name"]: detail["index"] for detail in interpreter.get_tensor_details()}
    known |= ends
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise QCompileError(Code.BAD_OPTION, f"the model has no tensor {unknown[0]!r}")
    return {name: known[name] for name in wanted}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep LiteRT's remarks off the standard error, which belongs to progress and errors.

    They are written by C++ code, to the file descriptor; what else is written meanwhile is passed
    on.
    """
    with _stderr_lock, tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            kept.seek(0)
            lines = kept.read().decode(errors="replace").splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not line.startswith(_REMARK)))


def _reason(error: Exception) -> str:
    """The runtime's message in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _missing() -> QCompileError:
    return QCompileError(
        Code.MISSING_EXTRA,
        "running TFLite models needs LiteRT",
        hint="pip install 'qcompile-edge[tflite]'",
    )
