"""Runs in a process of its own (``child.py``): a PyTorch model becomes an ONNX file.

torch's dynamo exporter does the work. The batch stays open: where the user says nothing about
dynamic dimensions, the first dimension of every input that has the batch's size there is one.
"""

import contextlib
import importlib
import inspect
import logging
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils._pytree import tree_leaves, tree_map

from qcompile.compiler.importers.torch_graph import finish_graph
from qcompile.compiler.importers.torch_user import Given, call_user, user_files
from qcompile.core.errors import Code, QCompileError

OPSET: Final = 21
_TOO_LARGE: Final = 1 << 30
"""Bytes of weights from which they lie beside the model: one message holds at most 2 GiB."""
_BATCH: Final = "batch"
_REGISTER_OPERATORS: Final = ("torchao.quantization.pt2e", "torch.ao.quantization.fx._decomposed")
"""Modules whose import makes quantized_decomposed's operators known; a program names them only."""


def main(request: dict[str, Any]) -> dict[str, Any]:
    """Write the ONNX file that a request asks for.

    Args:
        request: ``kind`` (function, program or pickle), ``model`` (what the user gave), ``onnx``
            (where to write) and ``shapes`` (input name -> shape).

    Returns:
        ``notes``: what the user should know; ``files``: those that the model was made of.

    Raises:
        QCompileError: MODEL_NOT_FOUND, IMPORT_FAILED.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    notes: list[str] = []
    before = set(sys.modules)
    with torch.no_grad():
        given = _load(request)
        program = _program(given, notes)
        names = given.names or ()
        exported = _to_onnx(program)
    finish_graph(exported.model, names, _output_names(program))
    large = sum(t.numel() * t.element_size() for t in program.state_dict.values()) > _TOO_LARGE
    exported.save(request["onnx"], external_data=large)
    files = user_files(before) if request["kind"] == "function" else []
    return {"notes": [f"exported by torch {torch.__version__}", *notes], "files": files}


def _load(request: Mapping[str, Any]) -> Given:
    kind, model = request["kind"], request["model"]
    if kind == "function":
        return call_user(model, Path())
    if kind == "program":
        return Given(_load_program(model), (), {})
    return _load_pickle(model, request["shapes"])


def _load_program(path: str) -> Any:
    """A program of a file in which nothing was found that could run code."""
    for module in _REGISTER_OPERATORS:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    try:
        with _restricted():
            return torch.export.load(path)
    except QCompileError:
        raise
    except Exception as error:
        raise _refused("torch cannot read the program", error) from error


@contextlib.contextmanager
def _restricted() -> Iterator[None]:
    """Refuse pickles: torch falls back to its unrestricted loader where the other fails."""
    real, loads = torch.load, pickle.loads

    def load(*arguments: Any, **options: Any) -> Any:
        return real(*arguments, **{**options, "weights_only": True})

    def refuse(*arguments: Any, **options: Any) -> Any:
        raise QCompileError(Code.UNTRUSTED_MODEL, "the file holds a pickle")

    torch.load, pickle.loads = load, refuse
    try:
        yield
    finally:
        torch.load, pickle.loads = real, loads


def _load_pickle(path: str, shapes: Mapping[str, Sequence[int]]) -> Given:
    """A module of a file that the user trusts, and random inputs of the shapes that he names."""
    sys.path.insert(0, str(Path().absolute()))  # where the user's classes are, as for a function
    try:
        module = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise _refused(f"torch cannot read {path}", error) from error
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule):
        what = "the code of TorchScript" if isinstance(module, torch.nn.Module) else "weights only"
        raise QCompileError(
            Code.IMPORT_FAILED,
            f"{path} holds {what}, not a module",
            hint="name a function that makes the model and loads them: module:function",
        )
    if not shapes:
        raise QCompileError(
            Code.IMPORT_FAILED,
            f"{path} does not say what the model is fed",
            hint="name the inputs of forward and their shapes, as --shape x=1,3,224,224",
        )
    generator = torch.Generator().manual_seed(0)
    inputs = {name: torch.randn(*shape, generator=generator) for name, shape in shapes.items()}
    return Given(module, (), inputs)


def _program(given: Given, notes: list[str]) -> Any:
    """The exported program of what the user gave."""
    if isinstance(given.module, torch.export.ExportedProgram):
        return given.module
    _evaluate(given.module, notes)
    if given.dynamic_shapes is not None:
        return _export(given, given.dynamic_shapes)
    try:
        return _export(*_with_open_batch(given))
    except QCompileError as open_error:
        program = _export(given, None)
        notes.append(f"the batch is fixed to that of the example inputs: {open_error.message}")
        return program


def _evaluate(module: Any, notes: list[str]) -> None:
    training = module.training
    try:
        module.eval()
    except NotImplementedError:  # a captured graph, of PT2E, has one mode
        return
    if training:
        notes.append("the module was in training mode; it was exported in evaluation mode")


def _export(given: Given, dynamic_shapes: Any) -> Any:
    try:
        return torch.export.export(
            given.module, given.args, dict(given.kwargs), dynamic_shapes=dynamic_shapes
        )
    except Exception as error:
        raise _refused("torch.export refuses the model", error) from error


@dataclass(frozen=True)
class _Batch:
    """Which dimension of the inputs is the batch, by the first of them that has one."""

    size: int

    def has(self, value: Any) -> bool:
        return isinstance(value, torch.Tensor) and value.dim() > 0 and value.shape[0] == self.size

    def doubled(self, value: Any) -> Any:
        """An example of a batch of one says nothing: torch takes 1 for a constant."""
        return torch.cat([value, value]) if self.size == 1 and self.has(value) else value

    def dynamic(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return None
        return {0: torch.export.Dim(_BATCH)} if self.has(value) else {}


def _with_open_batch(given: Given) -> tuple[Given, Any]:
    """Inputs of a batch of at least two, and the dimension that is it."""
    everything = tree_leaves((given.args, dict(given.kwargs)))
    first = next((v for v in everything if isinstance(v, torch.Tensor) and v.dim() > 0), None)
    if first is None:
        raise QCompileError(Code.IMPORT_FAILED, "no example input has dimensions")
    batch = _Batch(int(first.shape[0]))
    args, kwargs = tree_map(batch.doubled, (given.args, dict(given.kwargs)))
    dynamic = tree_map(batch.dynamic, (given.args, dict(given.kwargs)))
    shapes = tuple(dynamic[0]) if not kwargs else _by_parameter(given.module, dynamic)
    return Given(given.module, args, kwargs, given.names), shapes


def _by_parameter(module: Any, dynamic: tuple[tuple[Any, ...], dict[str, Any]]) -> dict[str, Any]:
    """Positional and named inputs under the names that ``forward`` has for them."""
    names = list(inspect.signature(module.forward).parameters)
    return {**dict(zip(names, dynamic[0], strict=False)), **dynamic[1]}


def _to_onnx(program: Any) -> Any:
    try:
        return torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, verbose=False, optimize=True
        )
    except Exception as error:
        raise _refused("torch's ONNX exporter refuses the model", error) from error


def _output_names(program: Any) -> list[str] | None:
    """The keys of a module that returns a dict of tensors, None for any other."""
    spec = program.call_spec.out_spec
    keys = list(spec.context) if spec is not None and spec.type is dict else []
    if not keys or not all(isinstance(key, str) for key in keys):
        return None
    return keys if spec.num_leaves == len(keys) else None


def _refused(what: str, error: BaseException) -> QCompileError:
    """The innermost reason, in one line: torch wraps each in a page of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = " ".join(lines[:3])[:400] or type(error).__name__
    return QCompileError(Code.IMPORT_FAILED, f"{what}: {type(error).__name__}: {said}")
