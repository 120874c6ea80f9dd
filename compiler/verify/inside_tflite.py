"""What a TFLite file's integers should be: our numpy reference by XNNPACK's rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.cut import exposed
from qcompile.targets.tflite.reference.evaluate import evaluate
from qcompile.targets.tflite.reference.model import Model, read
from qcompile.targets.tflite.reference.table import KERNELS
from qcompile.targets.tflite.runtime import TfliteSession

if TYPE_CHECKING:
    from qcompile.compiler.verify.inside import Arrays, ReferenceRun
    from qcompile.core.executor import Feeds


def reference_of(data: bytes, tensors: Sequence[str]) -> "ReferenceRun":
    """Ours, or where it lacks an operator LiteRT's reference kernels in this process.

    Args:
        data: the file.
        tensors: inner ones that are wanted.

    Raises:
        QCompileError: what loading raises.
    """
    try:
        model = read(data)
    except QCompileError as error:
        if error.code is not Code.SCHEME_UNSUPPORTED:
            raise
        return _Kernels.load(data, tensors)
    if any(operator.name not in KERNELS for operator in model.operators):
        return _Kernels.load(data, tensors)
    return _Ours(model, _names(model, tensors))


def _names(model: Model, wanted: Sequence[str]) -> Mapping[str, int]:
    """Names of outputs and tensors -> tensors; of several with one name the first computed one."""
    made = {index for operator in model.operators for index in operator.outputs}
    names: dict[str, int] = {}
    for index, tensor in enumerate(model.tensors):
        if index in made and tensor.name in wanted:
            names.setdefault(tensor.name, index)
    return {**names, **model.outputs}


@dataclass(frozen=True, eq=False)
class _Ours:
    model: Model
    names: Mapping[str, int]
    rule: str = "numpy, by XNNPACK's rule"

    def run(self, feeds: "Feeds") -> "Arrays":
        held = evaluate(self.model, feeds, rule="xnnpack")
        return {name: np.asarray(held[index]) for name, index in self.names.items()}


@dataclass(frozen=True)
class _Kernels:
    session: TfliteSession
    rule: str = "LiteRT's reference kernels, in this process"

    @classmethod
    def load(cls, data: bytes, tensors: Sequence[str]) -> "_Kernels":
        return cls(TfliteSession(exposed(data, tensors), "reference"))

    def run(self, feeds: "Feeds") -> "Arrays":
        return dict(zip(self.session.output_names, self.session.run(feeds), strict=True))
