"""Puts the bodies of model-local functions in the place of their calls."""

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from qcompile.core.errors import Code, QCompileError


def inline_functions(model: ir.Model) -> None:
    """Inline every call, in place; the model has no functions afterwards.

    A function may use another opset than the model: its nodes carry their version with them, and
    ``opset.convert_opset`` looks at that.

    Raises:
        QCompileError: MODEL_CYCLIC when a function calls itself, MODEL_INVALID when a call does not
            fit its function.
    """
    if not model.functions:
        return
    for function in model.functions.values():
        _remember_versions(function, model)
    try:
        InlinePass()(model)
    except ir.passes.PreconditionError as error:
        raise QCompileError(Code.MODEL_CYCLIC, f"functions call each other: {error}") from error
    except ValueError as error:
        raise QCompileError(Code.MODEL_INVALID, f"a function cannot be inlined: {error}") from error
    model.functions.clear()


def _remember_versions(function: ir.Function, model: ir.Model) -> None:
    versions = dict(function.opset_imports)
    for node in function.all_nodes():
        node.version = versions.get(node.domain)
    for domain, version in model.opset_imports.items():
        if domain in versions:
            function.opset_imports[domain] = version
