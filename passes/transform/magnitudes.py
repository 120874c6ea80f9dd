"""How large a layer's weight is between each pair of its channels, while both are scaled."""

import numpy as np

from qcompile.passes.prepare.linear import Layer


class Magnitudes:
    """The largest magnitudes of a weight over its kernel, one number for a pair of channels.

    Scaling channels scales them alike, so that many rounds of it never touch the weight. Every
    range is relative to the largest magnitude of the whole weight, as one scale a weight sees it.
    """

    def __init__(self, layer: Layer) -> None:
        weight = np.abs(layer.grouped())
        self._largest = weight.max(axis=tuple(range(3, weight.ndim)))
        self._out, self._in = layer.out_axis, 3 - layer.out_axis

    @property
    def outputs(self) -> np.ndarray:
        """float64 (out_channels,): range of each output channel, 0..1."""
        return self._relative(self._in)

    @property
    def inputs(self) -> np.ndarray:
        """float64 (in_channels,): range of each input channel, 0..1."""
        return self._relative(self._out)

    def scale_outputs(self, factors: np.ndarray) -> None:
        """Multiply the weights that make each output channel."""
        self._scale(factors, self._in)

    def scale_inputs(self, factors: np.ndarray) -> None:
        """Multiply the weights that read each input channel."""
        self._scale(factors, self._out)

    def _relative(self, over: int) -> np.ndarray:
        largest = self._largest.max(axis=over).reshape(-1)
        most = largest.max(initial=0.0)
        return np.asarray(largest / most if most > 0 else largest)

    def _scale(self, factors: np.ndarray, over: int) -> None:
        self._largest *= np.expand_dims(factors.reshape(self._largest.shape[0], -1), over)
