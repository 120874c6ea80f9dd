"""Weight-only schemes of the little Llama: perplexity of the artefacts, beside ONNX Runtime's tool.

Everything is stored in few bits: the 21 linear layers, the head and the embedding, which share
their numbers (with 4 bits at least). Rounded on a part of calibration.npz, judged on
evaluation.npz. All of calibration.npz gives less still.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import matmul_nbits_quantizer as peer

from tests.decoding import perplexity
from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import FLOAT_PERPLEXITY, session

pytestmark = [pytest.mark.models, pytest.mark.slow]


GATES = [
    ("lm", "w4", 32, 22.20),
    ("lm", "w4", 128, 22.25),
    ("lm", "w3", 128, 22.60),
    ("lm", "w2", 128, 27.5),
    ("lm_outlier", "w4", 32, 22.30),
]


def _options(scheme: str, group: int, *more: str) -> tuple[str, ...]:
    return ("--scheme", scheme, "--granularity", f"group:{group}", *more)


@pytest.mark.parametrize(("name", "scheme", "group", "most"), GATES)
def test_perplexity(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    text_data: Path,
    name: str,
    scheme: str,
    group: int,
    most: float,
) -> None:
    folder = models_dir / "llm"
    built = builder(
        folder / f"{name}.onnx",
        text_data,
        options=_options(scheme, group),
        effort="balanced",
    )
    after = perplexity(session(built.path), text_rows)
    figures.add(f"{name} {scheme} g{group}", "perplexity", FLOAT_PERPLEXITY, after, f"<= {most}")
    assert after <= most


@pytest.mark.parametrize(("bits", "group"), [(4, 32), (2, 128)])
def test_against_the_runtimes_tool(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    text_data: Path,
    tmp_path: Path,
    bits: int,
    group: int,
) -> None:
    """Same block and symmetry; its embedding stays float and, at 2 bits, its head is of 2 bits."""
    folder = models_dir / "llm"
    built = builder(
        folder / "lm.onnx",
        text_data,
        options=_options(f"w{bits}", group, "--symmetry", "symmetric"),
        effort="balanced",
    )
    ours = perplexity(session(built.path), text_rows)
    theirs = min(_peer(folder / "lm.onnx", bits, group, text_rows, tmp_path))
    figures.add(f"lm w{bits} g{group} symmetric", "perplexity", theirs, ours, "< ORT's tool")
    assert ours < theirs


def test_widths_by_sensitivity(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    text_data: Path,
) -> None:
    """3.5 bits a weight, scales and all, are better than 3.3 spent evenly, and keep to the size."""
    folder = models_dir / "llm"
    built = builder(
        folder / "lm.onnx",
        text_data,
        options=_options("w4", 128, "--bits-per-weight", "3.5"),
        effort="balanced",
    )
    after = perplexity(session(built.path), text_rows)
    stored = sum(
        t.nbytes for t in map(onnx.numpy_helper.to_array, onnx.load(built.path).graph.initializer)
    )
    figures.add("lm 3.5 bits g128", "perplexity", FLOAT_PERPLEXITY, after, "<= 23.5")
    assert after <= 23.5
    assert stored <= 1.05 * 3.5 / 8 * 2_490_368


def _peer(model: Path, bits: int, group: int, rows: np.ndarray, folder: Path) -> list[float]:
    """The perplexities of its algorithms that need no data, the tied head made a constant."""
    found = []
    configs: list[Any] = [
        peer.DefaultWeightOnlyQuantConfig(
            block_size=group, is_symmetric=True, accuracy_level=4, bits=bits
        )
    ]
    if bits == 4:
        configs.append(peer.KQuantWeightOnlyQuantConfig())
    for index, config in enumerate(configs):
        made = _with_constant_head(onnx.load(model))
        tool = peer.MatMulNBitsQuantizer(
            made, block_size=group, is_symmetric=True, accuracy_level=4, algo_config=config
        )
        tool.process()
        path = folder / f"peer{index}.onnx"
        onnx.save(tool.model.model, path)
        found.append(perplexity(session(path), rows))
    return found


def _with_constant_head(model: onnx.ModelProto) -> onnx.ModelProto:
    """The Transpose in front of the head worked out, which the tool does not look behind."""
    arrays = {t.name: t for t in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Transpose" and node.input[0] in arrays:
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            array = onnx.numpy_helper.to_array(arrays[node.input[0]]).transpose(order)
            tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), node.output[0])
            model.graph.initializer.append(tensor)
            model.graph.node.remove(node)
    return model
