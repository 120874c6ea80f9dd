"""The float models and data of MANIFEST.md as fixtures."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.figures import Figures, figures_of
from tests.models import minilm
from tests.models.building import Built, build


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
