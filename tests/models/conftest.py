"""The float models and data of MANIFEST.md as fixtures."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.figures import Figures, figures_of
from tests.models import minilm
from tests.models.building import Built, build

ROWS = 32
"""Of evaluation.npz."""
CALIBRATION = 64
"""Rows of calibration.npz: more of them change the second digit behind the point."""


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return figures_of(pytestconfig)


@pytest.fixture(scope="session")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Built]:
    """``build`` with a fresh folder for each artefact."""

    def make(model: Path, data: Path | None, **options: object) -> Built:
        return build(model, data, tmp_path_factory.mktemp(model.stem), **options)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def minilm_dir(models_dir: Path) -> Path:
    """all-MiniLM-L6-v2 as model.onnx, with tokenized calibration and evaluation batches."""
    return minilm.fetch(models_dir)


@pytest.fixture(scope="session")
def text_rows(models_dir: Path) -> np.ndarray:
    """Rows of 257 tokens that language models are judged on."""
    return np.asarray(np.load(models_dir / "llm" / "evaluation.npz")["input_ids"][:ROWS])


@pytest.fixture(scope="session")
def text_data(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Calibration data for language models."""
    ids = np.load(models_dir / "llm" / "calibration.npz")["input_ids"][:CALIBRATION]
    path = tmp_path_factory.mktemp("text") / "calibration.npz"
    np.savez(path, input_ids=ids.astype(np.int64))
    return path
