"""SmolLM2-135M-Instruct by llm/smollm2.py.

That is 540 MB, and builds of it take minutes, so it is asked for by ``VARIABLE``.
"""

import os
from pathlib import Path

import pytest

from tests.models.fetched import made_once

VARIABLE = "QCOMPILE_SMOLLM2"
"""Set to run what needs the model, which is made where the cache has none yet."""
PACKAGES = ("torch==2.13.0", "onnx", "onnxscript", "tokenizers", "gguf")
VERSION = "smollm2-0.1.2-1"
"""Of what is in the cache; raise it when this file writes something else."""


def find(models_dir: Path) -> Path:
    """The folder with smollm2_with_past.onnx and its tokenizer; skips where it is not asked for."""
    if not os.environ.get(VARIABLE):
        pytest.skip(f"no SmolLM2: set {VARIABLE}")
    script = models_dir / "llm" / "smollm2.py"
    return made_once(VERSION, PACKAGES, lambda out: [(script, out)])
