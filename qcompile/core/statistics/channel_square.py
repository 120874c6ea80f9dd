"""Mean square of each channel of a value: the diagonal of its Gram matrix, without the rest."""

import numpy as np

from qcompile.core.statistics.channel_sums import ChannelSums


class ChannelSquare(ChannelSums):
    """Mean square of each channel over all samples.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C).
    """

    def __init__(self, axis: int = -1) -> None:
        super().__init__(axis)

    def _of(self, sample: np.ndarray, axis: int) -> np.ndarray:
        rows = np.moveaxis(np.asarray(sample, np.float32), axis, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        sums: np.ndarray = np.einsum("nc,nc->c", rows, rows, dtype=np.float64)
        return sums
