"""Makes all-MiniLM-L6-v2 by encoder/fetch.py, once, in an environment that is thrown away."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PACKAGES = ("torch==2.13.0", "onnx", "onnxscript", "safetensors", "tokenizers", "numpy")
VERSION = "minilm-0.1.2-2"
"""Of what is in the cache; raise it when this file writes something else."""

TOKENIZE = """
import pathlib, sys, types
import numpy as np
encoder, out = map(pathlib.Path, sys.argv[1:])
sys.modules["onnxruntime"] = types.ModuleType("onnxruntime")  # imported, not used
sys.path.insert(0, str(encoder))
import evaluate
sets = {
    "calibration": (encoder / "calibration.txt").read_text().splitlines(),
    "evaluation": [sentence for row in evaluate.groups() for sentence in row],
}
for name, sentences in sets.items():
    (out / name).mkdir()
    for number, batch in enumerate(evaluate.batches(sentences, str(out / "tokenizer.json"))):
        np.savez(out / name / f"{number:03}.npz", **batch)
"""


def cache_folder() -> Path:
    """Where the model is kept between runs: under $XDG_CACHE_HOME or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "qcompile-tests" / VERSION


def fetch(models_dir: Path) -> Path:
    """The folder with model.onnx, calibration/NNN.npz and evaluation/NNN.npz, made when missing."""
    cache = cache_folder()
    if cache.is_dir():
        return cache
    cache.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache.parent) as scratch:
        environment, out = Path(scratch) / "venv", Path(scratch) / "out"
        python = environment / "bin" / "python"
        _run(sys.executable, "-m", "venv", environment)
        _run(python, "-m", "pip", "install", "--quiet", "--no-compile", *PACKAGES)
        _run(python, models_dir / "encoder" / "fetch.py", out)
        _run(python, "-c", TOKENIZE, models_dir / "encoder", out)
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
