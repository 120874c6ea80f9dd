"""One random graph: quantized, written, verified, and run under LiteRT against the reference."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from qcompile.targets.tflite.lower import lower
from qcompile.targets.tflite.reference.model import Model, read
from qcompile.targets.tflite.verifier import verify_flatbuffer
from tests.targets.tflite.enclosing import enclosed
from tests.targets.tflite.lowering import TARGET, quantized
from tests.targets.tflite.random_graphs.compare import (
    Deviation,
    deviations,
    end_to_end,
    for_reference_kernels,
    is_integer,
)
from tests.targets.tflite.random_graphs.nodes import graph

FORMS = ("planned", "planned float ends", "enclosed")
"""How the QDQ graph comes about: the planner's, its rules and all, or a quantizer everywhere."""

NOT_AMONG_REFERENCE_KERNELS = {"CEIL", "ELU", "ROUND"}


@dataclass
class Tally:
    """What was checked so far."""

    graphs: int = 0
    nodes: Counter[str] = field(default_factory=Counter)
    operators: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    """Kernels -> integer graphs that were equal from end to end."""


@dataclass(frozen=True)
class Outcome:
    """What is wrong with one graph; nothing, if all is well."""

    faults: list[str]
    deviations: list[Deviation]
    whole: dict[str, int]
    """Kernels -> largest difference in steps from end to end, of an integer graph."""

    @property
    def is_right(self) -> bool:
        return not self.faults and not self.deviations and not any(self.whole.values())


def check(op: str, size: int, seed: int, form: str, tally: Tally) -> Outcome:
    """Draw a graph, write it and compare everything; no exception is expected anywhere."""
    model = graph(op, size, seed).finished()
    data = written(model, form)
    parsed = read(data)
    tally.graphs += 1
    tally.nodes.update(node.op_type for node in model.graph)
    tally.operators.update(operator.name for operator in parsed.operators)
    feeds = random_feeds(parsed, seed)
    found, whole = [], {}
    used = {operator.name for operator in parsed.operators}
    if used & NOT_AMONG_REFERENCE_KERNELS:
        found += deviations(data, feeds, "builtin")
    else:
        oldest = for_reference_kernels(data)
        found += deviations(oldest, feeds, "reference")
        if is_integer(parsed) and "SUM" not in used:
            whole["reference"] = end_to_end(oldest, feeds, "reference")
    found += deviations(data, feeds, "xnnpack")
    if is_integer(parsed) and "TRANSPOSE_CONV" not in used:
        whole["xnnpack"] = end_to_end(data, feeds, "xnnpack")
    tally.whole.update(whole.keys())
    return Outcome([str(fault) for fault in verify_flatbuffer(data)], found, whole)


def written(model: ir.Model, form: str) -> bytes:
    """The finished file of a float model."""
    if form == "enclosed":
        return lower(enclosed(model), TARGET)
    return lower(quantized(model, ends="int8" if form == "planned" else "float"), TARGET)


def random_feeds(model: Model, seed: int) -> dict[str, np.ndarray]:
    """Every integer of the type for an integer input, noise for a float one."""
    rng, feeds = np.random.default_rng(seed), {}
    for name, index in model.inputs.items():
        tensor = model.tensors[index]
        if tensor.dtype == "float32":
            feeds[name] = (rng.standard_normal(tensor.shape) + 0.3).astype(np.float32)
        else:
            limits = np.iinfo(tensor.dtype)
            drawn = rng.integers(limits.min, limits.max + 1, tensor.shape)
            feeds[name] = drawn.astype(tensor.dtype)
    return feeds
