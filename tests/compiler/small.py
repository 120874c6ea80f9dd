"""Small float models with real structure, and samples for them, for tests of the whole way."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from qcompile.compiler.api import BuildResult, build
from tests.house.imports import ROOT

DIGITS = ROOT / "examples" / "digits"
TARGET = "ort-x86-avx2"


def text_model(body: str, constants: Mapping[str, np.ndarray], opset: int = 17) -> onnx.ModelProto:
    """A model from the text of its graph; ``constants`` become initializers."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>\n{body}')
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()
    )
    return model


def weights(seed: int, *shape: int) -> np.ndarray:
    """Noise of which a layer's output has about the size of its input."""
    scale = float(np.prod(shape[1:])) ** -0.5 if len(shape) > 1 else 0.1
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def cnn(seed: int = 0, classes: int = 4) -> onnx.ModelProto:
    """Two convolutions, a pool and a fully connected layer on 3 x 8 x 8 pictures."""
    return text_model(
        f"""net (float["N", 3, 8, 8] x) => (float["N", {classes}] y) {{
            a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            b = Relu (a)
            c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, w2, b2)
            d = Relu (c)
            e = GlobalAveragePool (d)
            f = Flatten (e)
            y = Gemm <transB = 1> (f, w3, b3)
        }}""",
        {
            "w1": weights(seed + 1, 8, 3, 3, 3), "b1": weights(seed + 2, 8),
            "w2": weights(seed + 3, 8, 8, 3, 3), "b2": weights(seed + 4, 8),
            "w3": weights(seed + 5, classes, 8), "b3": weights(seed + 6, classes),
        },
    )  # fmt: skip


def mlp() -> onnx.ModelProto:
    """Two MatMuls with biases and a Tanh between them, on rows of 16 numbers."""
    return text_model(
        """net (float["N", 16] x) => (float["N", 5] y) {
            a = MatMul (x, w1)
            b = Add (a, b1)
            c = Tanh (b)
            d = MatMul (c, w2)
            y = Add (d, b2)
        }""",
        {"w1": weights(1, 16, 12), "b1": weights(2, 12), "w2": weights(3, 12, 5),
         "b2": weights(4, 5)},
    )  # fmt: skip


def pictures(count: int, seed: int = 9) -> np.ndarray:
    """Samples for ``cnn``, float32 (count, 3, 8, 8)."""
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def rows(count: int, seed: int = 9) -> np.ndarray:
    """Samples for ``mlp``, float32 (count, 16)."""
    return np.random.default_rng(seed).normal(size=(count, 16)).astype(np.float32)


def saved(model: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    """Write a model and say where."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / name))
    return folder / name


def built(model: Path, **options: object) -> BuildResult:
    """Build for AVX2 unless told otherwise, in one go, with no latency."""
    usual = {"target": TARGET, "latency": False, "effort": "fast"}
    return build(model, **{**usual, **options})  # type: ignore[arg-type]


def digits(**options: object) -> BuildResult:
    """Build the example."""
    return built(
        DIGITS / "digits.onnx",
        **{
            "data": DIGITS / "calibration.npz",
            "config": DIGITS / "qcompile.toml",
            **options,
        },
    )


def integer_share(result: BuildResult, op: str) -> tuple[int, int]:
    """How many nodes of an op are integer, and how many float."""
    (row,) = [row for row in result.report.coverage.ops if row.op == op]
    return row.integer, row.float


def warnings(result: BuildResult) -> list[str]:
    """The warnings of a build."""
    return [str(note) for note in result.report.notes if note.level == "warning"]
