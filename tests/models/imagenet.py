"""The ImageNet pictures of MANIFEST.md: which calibrate, which evaluate, how they are fed."""

from pathlib import Path

import numpy as np
from PIL import Image

CONFIG = """
[data]
label_pattern = '^(\\d{4})_'

[preprocess]
crop = 224
mean = 127.5
std = 127.5
"""
"""qcompile.toml for MobileNet: the class from the name, the centre 224 of 256, x / 127.5 - 1."""


def pictures(models_dir: Path) -> list[Path]:
    """All 750, NNNN_wnid.jpg; NNNN is the class."""
    return sorted((models_dir / "imagenet").glob("*.jpg"))


def calibration(models_dir: Path) -> list[Path]:
    """The 125 whose class is divisible by 8."""
    return [path for path in pictures(models_dir) if label(path) % 8 == 0]


def evaluation(models_dir: Path) -> list[Path]:
    """The other 625."""
    return [path for path in pictures(models_dir) if label(path) % 8]


def label(path: Path) -> int:
    return int(path.name[:4])


def labels(paths: list[Path]) -> np.ndarray:
    return np.array([label(path) for path in paths])


def load(paths: list[Path]) -> np.ndarray:
    """N x 3 x 224 x 224 float32, as MobileNet takes them."""
    return np.stack([_load(path) for path in paths])


def _load(path: Path) -> np.ndarray:
    pixels = np.asarray(Image.open(path).convert("RGB"), np.float32)[16:240, 16:240]
    return (pixels / np.float32(127.5) - 1).transpose(2, 0, 1)


def link(paths: list[Path], folder: Path) -> Path:
    """A folder of links to pictures, as a user's data folder."""
    folder.mkdir(parents=True)
    for path in paths:
        (folder / path.name).symlink_to(path)
    return folder
