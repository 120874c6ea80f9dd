"""Makes all-MiniLM-L6-v2 by encoder/fetch.py, and the token rows it is calibrated and judged on."""

from pathlib import Path

from tests.models.fetched import made_once

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


def fetch(models_dir: Path) -> Path:
    """The folder with model.onnx, calibration/NNN.npz and evaluation/NNN.npz, made when missing."""
    encoder = models_dir / "encoder"
    return made_once(
        VERSION, PACKAGES, lambda out: [(encoder / "fetch.py", out), ("-c", TOKENIZE, encoder, out)]
    )
