"""Boxes of the face detector (Ultra-Light RFB-320): priors, decoding, suppression, matching."""

from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (320, 240)
"""Width and height of the input."""
STRIDES = (8, 16, 32, 64)
SIDES = ((10, 16, 24), (32, 48), (64, 96), (128, 192, 256))
"""Sides of the priors of each stride, in pixels (``min_boxes`` in the detector's source)."""
CENTER_VARIANCE, SIZE_VARIANCE = 0.1, 0.2
SURE = 0.7
"""Score from which the detector's own demo draws a box."""
LIKELY = 0.5
"""Score from which a box is rather a face than not."""


def load(path: Path) -> np.ndarray:
    """1 x 3 x 240 x 320: RGB, (x - 127) / 128."""
    picture = Image.open(path).convert("RGB").resize(SIZE, Image.Resampling.BILINEAR)
    return ((np.asarray(picture, np.float32) - 127) / 128).transpose(2, 0, 1)[None]


def priors() -> np.ndarray:
    """4420 x 4: centre x and y, width, height, as shares of the picture, in the model's order."""
    width, height = SIZE
    rows: list[tuple[float, float, float, float]] = []
    for stride, sides in zip(STRIDES, SIDES, strict=True):
        across, down = -(-width // stride), -(-height // stride)
        rows += [
            ((i + 0.5) / across, (j + 0.5) / down, side / width, side / height)
            for j in range(down)
            for i in range(across)
            for side in sides
        ]
    return np.clip(np.array(rows), 0, 1)


def decode(raw: np.ndarray) -> np.ndarray:
    """Offsets from the priors, N x 4, to corners x1, y1, x2, y2 (SSD, Liu et al. 2016)."""
    p = priors()
    centre = raw[:, :2] * CENTER_VARIANCE * p[:, 2:] + p[:, :2]
    half = np.exp(raw[:, 2:] * SIZE_VARIANCE) * p[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], 1)


def iou(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    """Intersection over union of one box with each of N."""
    low, high = np.maximum(one[:2], many[:, :2]), np.minimum(one[2:], many[:, 2:])
    inside = np.prod(np.clip(high - low, 0, None), 1)
    area = np.prod(many[:, 2:] - many[:, :2], 1) + np.prod(one[2:] - one[:2])
    return inside / (area - inside)


def faces(scores: np.ndarray, boxes: np.ndarray, overlap: float = 0.3) -> np.ndarray:
    """Boxes over ``SURE``, best first, those that overlap a better one left out."""
    sure = np.flatnonzero(scores[:, 1] > SURE)
    rest = boxes[sure[np.argsort(-scores[sure, 1], kind="stable")]]
    kept = []
    while len(rest):
        kept.append(rest[0])
        rest = rest[1:][iou(rest[0], rest[1:]) < overlap]
    return np.array(kept).reshape(-1, 4)


def match(reference: np.ndarray, got: np.ndarray, enough: float = 0.5) -> list[float]:
    """IoU of each reference box with the box of ``got`` that is its alone; 0 for none."""
    free, found = got, []
    for box in reference:
        overlaps = iou(box, free) if len(free) else np.zeros(0)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best < 0 or overlaps[best] < enough:
            found.append(0.0)
            continue
        found.append(float(overlaps[best]))
        free = np.delete(free, best, 0)
    return found


def lost(reference: np.ndarray, scores: np.ndarray, boxes: np.ndarray, enough: float = 0.5) -> int:
    """How many reference faces no box shows any more: none of a score over ``LIKELY`` overlaps.

    A face at 0.71 that is at 0.69 now falls under ``SURE``, yet whoever looks still finds it.
    """
    likely = boxes[scores[:, 1] > LIKELY]
    return sum(not np.any(iou(box, likely) >= enough) for box in reference)
