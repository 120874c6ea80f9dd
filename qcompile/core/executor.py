"""The protocol by which passes run part of a graph without knowing a runtime."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir  # heavy, and who only names devices needs it not

Feeds = Mapping[str, np.ndarray]
"""One sample as a model takes it: input name -> array."""


class Session(Protocol):
    """A loaded model. ``run`` may be called from several threads at once."""

    @property
    def input_names(self) -> Sequence[str]:
        """Names of the model's inputs, in order."""

    @property
    def output_names(self) -> Sequence[str]:
        """Names of the values ``run`` returns, in order."""

    def run(self, feeds: Feeds) -> list[np.ndarray]:
        """Run the model once; raises QCompileError(RUNTIME_FAILED)."""


class Executor(Protocol):
    """Loads a graph so that it can be run. ``targets.onnxruntime.executor`` implements it."""

    def load(
        self,
        model: "ir.Model",
        outputs: Sequence[str] | None = None,
        *,
        threads: int = 1,
        exact: bool = False,
        optimize: bool = True,
    ) -> Session:
        """Load a model without changing it.

        Args:
            model: float or QDQ graph; it may hold external tensors of any size.
            outputs: names of the values to return; the graph's outputs when None.
            threads: threads one ``run`` may use. 1 gives the same bytes on any number of cores.
            exact: integer sums must not saturate, whatever the fastest kernels here do.
            optimize: let the runtime fuse; False keeps every node as written.

        Raises:
            QCompileError: RUNTIME_REFUSED with the runtime's own reason.
        """
