"""Mean of each channel of a value over the first samples."""

import numpy as np

from qcompile.core.statistics.channel_sums import ChannelSums


class ChannelMean(ChannelSums):
    """Mean of each channel; every position counts the same.

    Args:
        axis: the channel axis, 1 for pictures (N, C, H, W), -1 for features (N, S, C).
        stop: samples with this index or a higher one are left out.
    """

    def __init__(self, axis: int, stop: int) -> None:
        super().__init__(axis)
        self.stop = stop

    def update(self, sample: np.ndarray, index: int) -> None:
        """Take in a sample; one too many says nothing, nor does an empty one.

        Raises:
            NotFiniteError: a channel's sum is NaN or infinite.
        """
        if index < self.stop:
            super().update(sample, index)

    def _of(self, sample: np.ndarray, axis: int) -> np.ndarray:
        others = tuple(k for k in range(sample.ndim) if k != axis)
        return np.asarray(sample.sum(axis=others), np.float64)
