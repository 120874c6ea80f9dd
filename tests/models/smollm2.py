"""SmolLM2-135M-Instruct by llm/smollm2.py, made once in an environment that is thrown away.

That is 540 MB, and builds of it take minutes, so it is asked for by ``VARIABLE``.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

VARIABLE = "QCOMPILE_SMOLLM2"
"""Set to run what needs the model, which is made where the cache has none yet."""
PACKAGES = ("torch==2.13.0", "onnx", "onnxscript", "tokenizers", "gguf")
VERSION = "smollm2-0.1.2-1"
"""Of what is in the cache; raise it when this file writes something else."""


def cache_folder() -> Path:
    """Where the model is kept between runs: under $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "qcompile-tests" / VERSION


def find(models_dir: Path) -> Path | None:
    """The folder with smollm2_with_past.onnx and its tokenizer; None where it is not asked for."""
    if not os.environ.get(VARIABLE):
        return None
    cache = cache_folder()
    if cache.is_dir():
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
        environment, out = Path(scratch) / "venv", Path(scratch) / "out"
        python = environment / "bin" / "python"
        _run(sys.executable, "-m", "venv", environment)
        _run(python, "-m", "pip", "install", "--quiet", "--no-compile", *PACKAGES)
        _run(python, models_dir / "llm" / "smollm2.py", out)
        if not cache.exists():
            shutil.move(out, cache)
    return cache


def _run(*command: object) -> None:
    done = subprocess.run(
        list(map(str, command)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}\n{done.stdout}"
