"""The oldest runtime that has what a file holds, stamped into it."""

import numpy as np
import pytest

from qcompile.passes.plan.weights import choose_weights
from qcompile.passes.quantize.insert_qdq import InsertQDQ
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.backend import TfliteBackend
from qcompile.targets.tflite.operator_table import oldest_with, operator_table
from qcompile.targets.tflite.reading import read_graph
from tests.passes.planning import draft
from tests.targets.tflite.lowering import parse

TARGET = load_target("tflite-arm64")
NET = "g (float[4,8] x) => (float y) { y = MatMul(x, w) }"


@pytest.mark.parametrize(
    ("versions", "oldest", "found"),
    [
        ([], "2.14", "2.14"),
        ([("CONV_2D", 3), ("FULLY_CONNECTED", 10)], "2.14", "2.14"),
        ([("FULLY_CONNECTED", 11), ("CONV_2D", 3)], "2.14", "LiteRT 1.0"),
        ([("FULLY_CONNECTED", 11)], "LiteRT 1.2", "LiteRT 1.2"),
        ([("FULLY_CONNECTED", 14)], "2.14", "LiteRT 2.3"),
        ([("FULLY_CONNECTED", 14)], "unheard of", "unheard of"),
    ],
)
def test_the_first_that_registers_all(
    versions: list[tuple[str, int]], oldest: str, found: str
) -> None:
    assert oldest_with(operator_table(), versions, oldest) == found


@pytest.mark.parametrize("scheme", ["w8a8", "w8a8-dynamic"])
def test_layers_that_find_their_scales_need_litert(scheme: str) -> None:
    """TFLite 2.14 would take the first channel's scale for all, without a word."""
    w = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)
    model = parse(NET, {"w": w})
    plan = draft(model, target=TARGET, scheme="w8a8-dynamic")
    choose_weights(model.graph, plan, TARGET)
    made = model.clone()
    InsertQDQ(plan)(made)
    lowered = TfliteBackend().lower(made, TARGET.under(scheme))
    graph = read_graph(lowered.data)
    stamp = graph.metadata["min_runtime_version"].rstrip(b"\0").decode()
    assert stamp == "LiteRT 1.0"
    told = [note.message for note in lowered.notes if note.level == "warning"]
    # under the dynamic scheme it is what the target says anyway
    assert [t for t in told if "LiteRT 1.0 or newer" in t] == told[: scheme == "w8a8"]
    assert len(told) == (scheme == "w8a8")
