"""Models of one operator, and how LiteRT runs them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qcompile.targets.tflite.builder import Builder, Options, Quantization
from qcompile.targets.tflite.reference.evaluate import run
from qcompile.targets.tflite.runtime import Kernels, open_interpreter


@dataclass(frozen=True, eq=False)
class Spec:
    """A tensor of a model of one operator; a constant if it has data."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: Any = None
    zero: Any = 0
    axis: int = 0
    data: np.ndarray | None = None

    def add(self, builder: Builder, name: str) -> int:
        q = None
        if self.scale is not None:
            q = Quantization.of(
                np.asarray(self.scale, np.float32), np.asarray(self.zero), self.axis
            )
        return builder.tensor(name, self.shape, self.dtype, q, self.data)


@dataclass(frozen=True, eq=False)
class OneOp:
    """An operator, its tensors, and arrays for those that are fed."""

    op: str
    inputs: Sequence[Spec | None]
    outputs: Sequence[Spec]
    feeds: Mapping[str, np.ndarray]
    options: Options | None = None
    version: int = 1

    def data(self) -> bytes:
        """The file."""
        builder = Builder()
        indices, fed = [], []
        for i, spec in enumerate(self.inputs):
            indices.append(-1 if spec is None else spec.add(builder, f"in{i}"))
            if spec is not None and spec.data is None:
                fed.append(indices[-1])
        made = [spec.add(builder, f"out{i}") for i, spec in enumerate(self.outputs)]
        builder.operator(self.op, indices, made, self.options, version=self.version)
        names = [builder.tensors[i].name for i in fed], [builder.tensors[i].name for i in made]
        return builder.finish(fed, made, names=names, description="one operator")

    def shaped(self) -> "OneOp":
        """The same with the outputs' shapes, which the evaluator finds."""
        found = run(self.data(), self.feeds)
        outputs = [
            replace(spec, shape=found[f"out{i}"].shape) for i, spec in enumerate(self.outputs)
        ]
        return replace(self, outputs=outputs)


def litert(data: bytes, feeds: Mapping[str, np.ndarray], kernels: Kernels) -> dict[str, np.ndarray]:
    """Outputs under LiteRT."""
    runner = open_interpreter(data, kernels).get_signature_runner()
    return {name: np.array(array) for name, array in runner(**feeds).items()}


def delegated(data: bytes) -> bool:
    """Whether XNNPACK takes the operator."""
    session = open_interpreter(data, one_by_one=True)
    return any(d["op_name"] == "DELEGATE" for d in session._get_ops_details())


def differences(one: OneOp, kernels: Kernels) -> np.ndarray:
    """LiteRT's outputs minus ours, all outputs in one vector."""
    data = one.data()
    theirs = litert(data, one.feeds, kernels)
    ours = run(data, one.feeds, rule="xnnpack" if kernels == "xnnpack" else "reference")
    parts = []
    for name, expected in theirs.items():
        found = ours[name]
        assert found.dtype == expected.dtype, (name, found.dtype, expected.dtype)
        assert found.shape == expected.shape, (name, found.shape, expected.shape)
        wide = np.float64 if expected.dtype.kind == "f" else np.int64
        parts.append((expected.astype(wide) - found.astype(wide)).reshape(-1))
    return np.concatenate(parts)
