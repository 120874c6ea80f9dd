"""Every operator of a finished file under LiteRT against the numpy reference, one by one.

Each operator gets the tensors that LiteRT computed before it, so that one deviation is not seen
again in all that follows; XNNPACK is given the operators one by one, so that all are readable.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np

from qcompile.targets.tflite.reference.call import Rule, Tensor
from qcompile.targets.tflite.reference.evaluate import call_kernel, evaluate
from qcompile.targets.tflite.reference.model import Model, Operator, read
from qcompile.targets.tflite.runtime import Kernels, open_interpreter
from qcompile.targets.tflite.schema import schema

FLOAT_ERROR = {"reference": 2e-6, "builtin": 2e-5, "xnnpack": 2e-5}
"""Of the largest output: functions of float32 are approximated by the faster kernels."""
WRONG = {"reference": {"SUM"}}
"""Kernels -> operators that they compute wrongly; not compared."""
STEPS = {"xnnpack": {"TRANSPOSE_CONV": 1}, "builtin": {}}
"""Kernels -> operator -> deviation in steps; not there: none, but for builtin: 1."""


@dataclass(frozen=True)
class Deviation:
    """An operator whose result is not what the reference says."""

    kernels: str
    operator: str
    largest: float
    """In steps of an integer result, in real numbers of a float one."""
    count: int
    size: int


def for_reference_kernels(data: bytes) -> bytes:
    """The file with the oldest operator versions, which the reference kernels register.

    A version only says which runtimes know a form; the kernels are the same.
    """
    s = schema()
    model = s.ModelT.InitFromObj(s.Model.GetRootAs(bytearray(data), 0))
    broadcast = s.BuiltinOperator.BROADCAST_TO
    for code in model.operatorCodes:
        code.version = 2 if code.builtinCode == broadcast else 1
    builder = flatbuffers.Builder(1 << 12)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def deviations(data: bytes, feeds: dict[str, np.ndarray], kernels: Kernels) -> list[Deviation]:
    """All operators that deviate, given what LiteRT computed before each."""
    model = read(data)
    held = computed(data, model, feeds, kernels)
    return [found for operator in model.operators for found in _of(model, operator, held, kernels)]


def end_to_end(data: bytes, feeds: dict[str, np.ndarray], rule: Rule) -> int:
    """Largest difference in the outputs when XNNPACK or the reference kernels run all at once."""
    model = read(data)
    session = open_interpreter(data, rule)
    _fill(session, model, feeds)
    session.invoke()
    ours = evaluate(model, feeds, rule=rule)
    return max(
        int(
            np.abs(ours[i].astype(np.int64) - session.get_tensor(i).astype(np.int64)).max(initial=0)
        )
        for i in model.outputs.values()
    )


def is_integer(model: Model) -> bool:
    """Whether no operator reads or makes real numbers."""
    return not any(
        model.tensors[i].dtype == "float32"
        for operator in model.operators
        for i in (*operator.inputs, *operator.outputs)
        if i >= 0
    )


def computed(
    data: bytes, model: Model, feeds: dict[str, np.ndarray], kernels: Kernels
) -> dict[int, np.ndarray]:
    """Every tensor, from a run of LiteRT that keeps all."""
    session = open_interpreter(data, kernels, keep_all=True, one_by_one=kernels == "xnnpack")
    _fill(session, model, feeds)
    session.invoke()
    held = {i: t.data for i, t in enumerate(model.tensors) if t.data is not None}
    for index, tensor in enumerate(model.tensors):
        if tensor.data is None:
            held[index] = session.get_tensor(index)
    return held


def _fill(session: Any, model: Model, feeds: dict[str, np.ndarray]) -> None:
    for name, index in model.inputs.items():
        session.set_tensor(index, feeds[name])


def _of(
    model: Model, operator: Operator, held: dict[int, np.ndarray], kernels: Kernels
) -> Iterator[Deviation]:
    if operator.name in WRONG.get(kernels, ()):
        return
    rule: Rule = "xnnpack" if kernels == "xnnpack" else "reference"
    results = call_kernel(model, operator, held, rule)
    for index, ours in zip(operator.outputs, results, strict=True):
        theirs, tensor = held[index], model.tensors[index]
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), operator.name
        away = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
        away = np.where(ours == theirs, 0.0, away)
        bad = ~(away <= _allowed(operator, tensor, theirs, kernels))
        if bad.any():
            yield Deviation(
                kernels, operator.name, float(away.max()), int(bad.sum()), int(bad.size)
            )


def _allowed(operator: Operator, tensor: Tensor, result: np.ndarray, kernels: Kernels) -> float:
    if tensor.dtype == "float32":
        finite = result[np.isfinite(result)]
        return FLOAT_ERROR[kernels] * max(1.0, float(np.abs(finite).max(initial=0)))
    if kernels == "reference":
        return 0
    return STEPS[kernels].get(operator.name, 1 if kernels == "builtin" else 0)
