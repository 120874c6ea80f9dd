"""Weight-only schemes beside ONNX Runtime's own MatMulNBitsQuantizer, on the small Llama."""

import logging
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization import matmul_nbits_quantizer as ort_tool
from rich.table import Table

from tests.benchmarks.workshop import Workshop
from tests.decoding import perplexity
from tests.models.running import session

ROWS: Final = 32
TOKENS: Final = 200
"""Runs of one token, in turns, of which the median counts."""

WIDTHS: Final = ((8, 32), (4, 32), (4, 128), (2, 32), (2, 128))
"""Bits and elements of a block."""

FOUR_BITS: Final = ("k_quant", "HQQ", "GPTQ")
"""Algorithms of the tool that know 4 bits only."""


class Rows(CalibrationDataReader):  # type: ignore[misc]  # it has no types
    """The calibration rows, one at a time."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = iter(rows.astype(np.int64))

    def get_next(self) -> dict[str, np.ndarray] | None:
        row = next(self._rows, None)
        return None if row is None else {"input_ids": row[None]}


@dataclass(frozen=True)
class Contender:
    """A finished model."""

    name: str
    path: Path


def tables(shop: Workshop) -> list[Table]:
    """Perplexity, size, and the time of one token over that of float, by width."""
    source = shop.models / "llm" / "lm.onnx"
    rows = np.load(shop.models / "llm" / "evaluation.npz")["input_ids"][:ROWS]
    return [_table(shop, source, rows, bits, block) for bits, block in WIDTHS]


def _table(shop: Workshop, source: Path, rows: np.ndarray, bits: int, block: int) -> Table:
    title = (
        f"{bits}-bit weights in blocks of {block}: linear layers and head; embedding float in the "
        "tool's, stored with the head in ours"
    )
    table = Table("model", "perplexity", "MB", "token, x of float", title=title)
    made = [Contender("float", source), *_ours(shop, source, bits, block)]
    for name, make in _peers(shop, source, bits, block):
        try:
            made.append(Contender(name, make()))
        except Exception as error:  # the tool's own, of many kinds
            table.add_row(name, f"{type(error).__name__}: {error}"[:60], "", "")
    ratios = _ratios([one.path for one in made])
    for one, ratio in zip(made, ratios, strict=True):
        size = f"{one.path.stat().st_size / 1e6:.2f}"
        found = perplexity(session(one.path), rows)
        table.add_row(one.name, f"{found:.3f}", size, f"{ratio:.2f}")
    return table


def _ours(shop: Workshop, source: Path, bits: int, block: int) -> Iterator[Contender]:
    data = shop.models / "llm" / "calibration.npz"
    for name, more in (("nearest", ()), ("with data", ("-d", str(data)))):
        for symmetry in ("symmetric", "asymmetric"):
            out = shop.folder / f"ours-{bits}-{block}-{name.replace(' ', '-')}-{symmetry}.onnx"
            options = ["--scheme", f"w{bits}", "--granularity", f"group:{block}"]
            options += ["--symmetry", symmetry, "--no-latency", *more]
            shop.child(
                "qcompile", "build", str(source), "-t", shop.target, "-o", str(out), *options
            )
            yield Contender(f"qcompile w{bits} {name}, {symmetry}", out)


def _peers(
    shop: Workshop, source: Path, bits: int, block: int
) -> Iterator[tuple[str, Callable[[], Path]]]:
    """Each algorithm of the tool that has the width, with and without zero points."""
    algorithms = ("default", *(FOUR_BITS if bits == 4 else ()))
    for algorithm in algorithms:
        for symmetric in (True, False) if algorithm == "default" else (False,):
            name = f"ORT {algorithm}, {'symmetric' if symmetric else 'asymmetric'}"

            def make(algorithm: str = algorithm, symmetric: bool = symmetric) -> Path:
                out = shop.folder / f"ort-{bits}-{block}-{algorithm}-{symmetric}.onnx"
                _peer(shop, source, out, algorithm, bits, block, symmetric)
                return out

            yield name, make


def _peer(
    shop: Workshop, source: Path, out: Path, algorithm: str, bits: int, block: int, symmetric: bool
) -> None:
    """Run the tool on the model with its head folded, which it would skip else."""
    logging.getLogger(ort_tool.__name__).setLevel(logging.WARNING)
    model = _folded(source)
    config = _config(shop, algorithm, bits, block)
    tool = ort_tool.MatMulNBitsQuantizer(
        model, bits=bits, block_size=block, is_symmetric=symmetric, accuracy_level=4,
        algo_config=config,
    )  # fmt: skip
    tool.process()
    tool.model.save_model_to_file(str(out))


def _config(shop: Workshop, algorithm: str, bits: int, block: int) -> Any:
    if algorithm == "k_quant":
        return ort_tool.KQuantWeightOnlyQuantConfig()
    if algorithm == "HQQ":
        return ort_tool.HQQWeightOnlyQuantConfig(block_size=block, bits=bits)
    if algorithm == "GPTQ":
        rows = np.load(shop.models / "llm" / "calibration.npz")["input_ids"][:ROWS]
        return ort_tool.GPTQWeightOnlyQuantConfig(Rows(rows), block_size=block)
    return None


def _folded(source: Path) -> onnx.ModelProto:
    """The model with every Transpose of a constant done."""
    model = onnx.load(str(source))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in list(model.graph.node):
        if node.op_type == "Transpose" and node.input[0] in constants:
            array = onnx.numpy_helper.to_array(constants[node.input[0]]).T
            tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(array), node.output[0])
            model.graph.initializer.append(tensor)
            model.graph.node.remove(node)
    return model


def _ratios(paths: list[Path]) -> list[float]:
    """Median time of one token, in turns and with one thread, over that of the first."""
    sessions: list[ort.InferenceSession] = [session(path, threads=1) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    feed = {"input_ids": np.asarray([[5]], np.int64)}
    for _ in range(TOKENS):
        for one, taken in zip(sessions, times, strict=True):
            start = time.perf_counter()
            one.run(None, feed)
            taken.append(time.perf_counter() - start)
    medians = [statistics.median(taken) for taken in times]
    return [median / medians[0] for median in medians]
