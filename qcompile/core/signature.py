"""What a model takes and gives: the names, types and shapes of its ends."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

Dim = int | str | None
"""A known size, a named one (``"batch"``), or one nothing is known of."""


@dataclass(frozen=True)
class TensorSpec:
    """One end of a model: name, element type (numpy's name, as ``float32``) and shape."""

    name: str
    dtype: str
    shape: tuple[Dim, ...] | None

    @property
    def is_static(self) -> bool:
        """Whether every dimension is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    def __str__(self) -> str:
        dims = (
            "?"
            if self.shape is None
            else "x".join("?" if d is None else str(d) for d in self.shape)
        )
        return f"{self.name}: {self.dtype}[{dims}]"


@dataclass(frozen=True)
class Signature:
    """The ends of a model, in the order in which the file lists them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def tensor_spec(value: ir.Value) -> TensorSpec:
    """Describe one graph input or output."""
    dtype = np.dtype(value.dtype.numpy()).name if value.dtype is not None else "float32"
    if value.shape is None:
        return TensorSpec(value.name or "", dtype, None)
    dims = tuple(d if isinstance(d, int) else d.value for d in value.shape)
    return TensorSpec(value.name or "", dtype, dims)


def signature_of(model: ir.Model) -> Signature:
    """Describe a model's ends; initializers that are also listed as inputs are left out."""
    graph = model.graph
    inputs = (v for v in graph.inputs if v.name not in graph.initializers)
    return Signature(tuple(map(tensor_spec, inputs)), tuple(map(tensor_spec, graph.outputs)))
