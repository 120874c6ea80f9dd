"""Runs a finished TFLite file in numpy, by the reference kernels' arithmetic or XNNPACK's."""

from collections.abc import Mapping

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.reference.call import Call, Rule
from qcompile.targets.tflite.reference.model import Model, Operator, read
from qcompile.targets.tflite.reference.table import KERNELS


def run(
    data: bytes, feeds: Mapping[str, np.ndarray], *, rule: Rule = "reference"
) -> dict[str, np.ndarray]:
    """Outputs of a file by name.

    Args:
        data: the file.
        feeds: input name (of the signature, else of the tensor) -> array of the tensor's type.
        rule: ``reference`` computes what LiteRT's reference kernels do; ``xnnpack`` what its
            default does: XNNPACK's rule where XNNPACK takes an operator.

    Raises:
        QCompileError: DATA_NAMES for a missing input, SCHEME_UNSUPPORTED for an operator that has
            no function here.
    """
    model = read(data)
    held = evaluate(model, feeds, rule=rule)
    return {name: held[index] for name, index in model.outputs.items()}


def trace(
    data: bytes, feeds: Mapping[str, np.ndarray], *, rule: Rule = "reference"
) -> dict[str, np.ndarray]:
    """Every tensor that is computed, by its name, as ``run`` would compute it."""
    model = read(data)
    held = evaluate(model, feeds, rule=rule)
    return {
        model.tensors[index].name: array
        for index, array in held.items()
        if model.tensors[index].data is None
    }


def evaluate(
    model: Model, feeds: Mapping[str, np.ndarray], *, rule: Rule = "reference"
) -> dict[int, np.ndarray]:
    """Every tensor of a model that was read, by index."""
    held = {i: t.data for i, t in enumerate(model.tensors) if t.data is not None}
    for name, index in model.inputs.items():
        if name not in feeds:
            raise QCompileError(Code.DATA_NAMES, f"no array for the input {name}")
        held[index] = np.asarray(feeds[name])
    for operator in model.operators:
        results = call_kernel(model, operator, held, rule)
        held.update(zip(operator.outputs, results, strict=True))
    return held


def call_kernel(
    model: Model, operator: Operator, held: Mapping[int, np.ndarray], rule: Rule
) -> list[np.ndarray]:
    """The outputs of one operator on the arrays that are held so far."""
    kernel = KERNELS.get(operator.name)
    if kernel is None:
        raise QCompileError(
            Code.SCHEME_UNSUPPORTED, f"operator {operator.name} has no numpy reference"
        )
    call = Call(
        operator.name,
        operator.options,
        tuple(None if i < 0 else model.tensors[i] for i in operator.inputs),
        tuple(model.tensors[i] for i in operator.outputs),
        tuple(None if i < 0 else held[i] for i in operator.inputs),
        rule,
    )
    return list(kernel(call))
