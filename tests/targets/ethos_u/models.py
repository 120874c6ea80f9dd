"""TFLite files of small models for an Ethos-U, before Vela."""

import functools
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from qcompile.compiler.api import build
from qcompile.core.accelerator import Accelerator
from qcompile.core.target import Target
from qcompile.targets.catalog import load_target
from tests.compiler import small

U55, U65, U85 = "tflite-ethos-u55-128", "tflite-ethos-u65-256", "tflite-ethos-u85-256"
ALL = (U55, U65, U85)
LEAVES = """net (float[1, 8, 6, 6] x) => (float[1, 8, 6, 6] y) {
    a = Conv (x, w)
    b = LogSoftmax <axis = 1> (a)
    y = Conv (b, w)
}"""
"""A model with an operator that no Ethos-U runs, between two that all run."""


@functools.cache
def before_vela(text: str = "") -> bytes:
    """The TFLite file of a graph, by default one that an Ethos-U runs as a whole."""
    model = small.text_model(text, {"w": small.weights(0, 8, 8, 1, 1)}) if text else small.cnn()
    shape = (1, 8, 6, 6) if text else (1, 3, 8, 8)
    x = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    with TemporaryDirectory() as folder:
        np.savez(Path(folder) / "x.npz", x=x.reshape(-1, *shape[1:]))
        path = small.saved(model, Path(folder))
        options = {"effort": "fast", "latency": False, "target": "tflite-micro"}
        shapes = {"x": shape}
        return build(path, data=Path(folder) / "x.npz", shapes=shapes, **options).artefact


def target(name: str, **options: str) -> Target:
    """A target with other options for Vela."""
    loaded = load_target(name)
    assert isinstance(loaded.accelerator, Accelerator)
    told = {**loaded.accelerator.options, **{k.replace("_", "-"): v for k, v in options.items()}}
    return replace(loaded, accelerator=replace(loaded.accelerator, options=told))
