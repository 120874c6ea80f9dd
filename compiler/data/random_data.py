"""Samples of noise, for trying a build without data; nothing that comes of them is fit to ship."""

from typing import TYPE_CHECKING

import numpy as np

from qcompile.compiler.data.batches import batching
from qcompile.compiler.data.dataset import Sample
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from qcompile.core.signature import Signature, TensorSpec


class RandomDataset:
    """Standard normal floats; integers and booleans are 0 or 1: valid for masks and for ids."""

    name = "random data"
    has_labels = False

    def __init__(
        self, shapes: dict[str, tuple[str, tuple[int, ...]]], count: int, seed: int
    ) -> None:
        self._shapes, self._count, self._seed = shapes, count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self._count:
            raise IndexError(index)
        # Each sample has its own generator, so that the order of access does not matter.
        generator = np.random.default_rng([self._seed, index])
        feeds = {
            name: _draw(generator, dtype, shape) for name, (dtype, shape) in self._shapes.items()
        }
        return Sample(feeds, None, f"{self.name}[{index}]")


def random_data(signature: "Signature", n: int, seed: int) -> RandomDataset:
    """Make ``n`` samples of noise; an open batch is 1.

    Raises:
        QCompileError: SHAPE_NOT_STATIC naming the input with another open dimension, DATA_TYPE for
            an input that is no number, DATA_EMPTY when ``n`` is below 1.
    """
    if n < 1:
        raise QCompileError(Code.DATA_EMPTY, f"{n} random samples are none")
    axes = batching(signature).axes
    shapes = {s.name: (s.dtype, _shape(s, axes[s.name])) for s in signature.inputs}
    return RandomDataset(shapes, n, seed)


def _shape(spec: "TensorSpec", axis: int | None) -> tuple[int, ...]:
    if np.dtype(spec.dtype).kind not in "fiub":
        raise QCompileError(
            Code.DATA_TYPE, f"random data cannot feed the input {spec.name!r} of {spec.dtype}"
        )
    dims = [
        1 if i == axis and not isinstance(d, int) else d for i, d in enumerate(spec.shape or ())
    ]
    sizes = tuple(d for d in dims if isinstance(d, int))
    if spec.shape is None or len(sizes) != len(dims):
        raise QCompileError(
            Code.SHAPE_NOT_STATIC,
            f"random data need to know the shape of the input {spec}",
            hint=f"fix it with --shape {spec.name}=...",
        )
    return sizes


def _draw(generator: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    if np.dtype(dtype).kind == "f":
        return np.asarray(generator.standard_normal(shape)).astype(dtype)
    return np.asarray(generator.integers(0, 2, shape)).astype(dtype)
