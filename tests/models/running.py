"""Runs models in ONNX Runtime and compares what they say, apart from the product's own code."""

import importlib.util
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort

FLOAT_COMPUTE = ("Conv", "FusedConv", "NhwcFusedConv", "MatMul", "Gemm", "FusedMatMul", "FusedGemm")
"""Op types of ONNX Runtime's optimized graph in which multiply-adds are still float."""

FLOAT_PERPLEXITY = 22.037
"""Of the small Llama on ``text_rows``, with outliers and without."""

STEMS = {"fast": ({},), "balanced": ({"Conv": 1, "FusedConv": 1}, {"Conv": 1, "FusedConv": 3})}
"""Effort -> what may be float where a stem pays: the first layer and the depthwise one behind it,
or the two behind that as well."""


def session(
    model: Path | bytes, *, exact: bool = False, threads: int = 2, dump: Path | None = None
) -> ort.InferenceSession:
    """A model loaded as a user would, all optimizations on.

    Args:
        model: a file, or a serialized model.
        exact: integer sums must not saturate.
        threads: of one inference.
        dump: where to write the runtime's own optimized graph (at level EXTENDED, which keeps the
            standard layout).
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    if exact:
        options.add_session_config_entry("session.x64quantprecision", "1")
    if dump is not None:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = str(dump)
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run(model: ort.InferenceSession, x: np.ndarray, batch: int = 25) -> np.ndarray:
    """The first output for a batch of any size, in the batches that the model takes."""
    given = model.get_inputs()[0]
    step = given.shape[0] if given.shape and isinstance(given.shape[0], int) else batch
    parts = (x[k : k + step] for k in range(0, len(x), step))
    return np.concatenate([model.run(None, {given.name: part})[0] for part in parts])


def optimized_ops(model: Path, folder: Path) -> Counter[str]:
    """Op types of ONNX Runtime's own optimized graph, those of If and Loop bodies included."""
    dump = folder / f"{model.stem}.optimized.onnx"
    session(model, dump=dump)
    return Counter(node.op_type for node in _nodes(onnx.load(dump).graph))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def float_compute(ops: Mapping[str, int]) -> dict[str, int]:
    """The op types that still multiply in float, and how many there are of each."""
    return {op: ops[op] for op in FLOAT_COMPUTE if ops.get(op)}


def sqnr(reference: np.ndarray, got: np.ndarray) -> float:
    """10 log10(sum r^2 / sum (r - g)^2), in dB."""
    r, g = np.float64(reference), np.float64(got)
    return float(10 * np.log10(np.sum(r**2) / max(float(np.sum((r - g) ** 2)), 1e-30)))


def log_p(p: np.ndarray) -> np.ndarray:
    """Log probabilities; what is under four steps of an 8-bit softmax is not compared.

    One step more or less than 1/256 is a factor of 2: below this the softmax's own rounding is all
    that would be seen.
    """
    return np.log(np.clip(np.float64(p), 4 / 256, 1))


def agreement(reference: np.ndarray, got: np.ndarray) -> float:
    """Share of rows with the same first choice."""
    return float(np.mean(reference.argmax(-1) == got.argmax(-1)))


def accuracy(p: np.ndarray, labels: np.ndarray) -> float:
    """Share of rows whose first choice is the label."""
    return float(np.mean(p.argmax(-1) == labels))


@contextmanager
def absent(module: str, **names: object) -> Iterator[None]:
    """Let a script import a module that is not installed and that we shall not use."""
    known = module in sys.modules
    if not known:
        stand_in = ModuleType(module)
        vars(stand_in).update(names)
        sys.modules[module] = stand_in
    try:
        yield
    finally:
        if not known:
            del sys.modules[module]


def script(path: Path) -> ModuleType:
    """Import a script that lies beside a model, with its own folder on the path meanwhile."""
    name = f"models_{path.parent.name}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
