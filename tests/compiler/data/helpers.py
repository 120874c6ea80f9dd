"""Signatures, pictures and errors that the tests of this room share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Dim, Signature, TensorSpec


def signature(*specs: tuple[str, str, tuple[Dim, ...] | None]) -> Signature:
    return Signature(tuple(TensorSpec(*spec) for spec in specs), ())


def one_input(*shape: Dim, dtype: str = "float32") -> Signature:
    return signature(("input", dtype, shape))


def pixels(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def write_picture(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.squeeze()).save(path)
    return path


def refused(code: Code, *words: str, when: Callable[[], Any]) -> QCompileError:
    """The error that a call ends in: its code, and words that its text must hold."""
    with pytest.raises(QCompileError) as caught:
        when()
    assert caught.value.code is code, str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return caught.value
