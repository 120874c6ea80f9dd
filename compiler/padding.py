"""Which positions of a text are padding, which nobody reads."""

from collections.abc import Mapping
from typing import Final

import numpy as np

MASKS: Final = ("attention_mask", "input_mask")
"""What the inputs of text encoders are called that are 1 where there is text and 0 behind it."""


def text_positions(feeds: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """Where there is text, bool (texts, positions); None where no input says so.

    Args:
        feeds: one sample, by input name.
    """
    for name in MASKS:
        mask = feeds.get(name)
        if mask is not None and mask.ndim == 2 and np.isin(mask, (0, 1)).all() and mask.any():
            return np.asarray(mask != 0)
    return None


def without_padding(array: np.ndarray, text: np.ndarray | None) -> np.ndarray:
    """The rows (positions, ...) of an output that stand for text; other outputs as they are.

    Args:
        array: an output.
        text: of ``text_positions``.
    """
    if text is None or array.ndim < 3 or array.shape[:2] != text.shape:
        return array
    return np.asarray(array[text])


def only_text(array: np.ndarray, text: np.ndarray | None) -> np.ndarray:
    """As ``without_padding`` for values of three axes inside a model; the axes stay three.

    Args:
        array: a value.
        text: of ``text_positions``.
    """
    if text is None or array.ndim != 3 or array.shape[:2] != text.shape or text.all():
        return array
    return np.asarray(array[text][np.newaxis])
