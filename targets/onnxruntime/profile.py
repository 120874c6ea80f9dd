"""What float nodes of an ONNX file cost: their share of the time, by ONNX Runtime's own profile."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort

from qcompile.core.scratch import scratch_folder
from qcompile.core.target import Target
from qcompile.targets.onnxruntime.executed import QUANTIZERS, executed
from qcompile.targets.onnxruntime.executor import open_session, session_options
from qcompile.targets.onnxruntime.prove import optimized_graph

RUNS: Final = 20
_KERNEL: Final = "_kernel_time"


def off_share(
    artefact: bytes | Path, feeds: Mapping[str, np.ndarray], target: Target
) -> float | None:
    """Share of the kernels' time that is spent in float nodes and in the quantizers around them.

    Those at the ends of the model are not counted: they would be there without a float node.

    Args:
        artefact: the finished model, its bytes or its path.
        feeds: one sample, as the artefact takes it.
        target: what the artefact is for.

    Returns:
        Between 0 and 1, of the medians of ``RUNS`` runs; None when the profile shows no time.
    """
    off = {node.name for node in executed(artefact, target) if not node.integer}
    off |= _borders(optimized_graph(artefact))
    times = _profiled(artefact, feeds)
    spent = {name: float(np.median(runs)) for name, runs in times.items()}
    total = sum(spent.values())
    return sum(spent[name] for name in off & spent.keys()) / total if total else None


def _borders(graph: onnx.GraphProto) -> set[str]:
    """Names of the quantizers between nodes."""
    ends = {value.name for value in (*graph.input, *graph.output)}
    return {
        node.name
        for node in graph.node
        if node.op_type in QUANTIZERS and not ends & {*node.input, *node.output}
    }


def _profiled(artefact: bytes | Path, feeds: Mapping[str, np.ndarray]) -> Mapping[str, list[float]]:
    """Name of a node -> microseconds of its runs, the first two left out."""
    with scratch_folder() as folder:
        options = session_options()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.enable_profiling = True
        options.profile_file_prefix = os.fspath(folder / "profile")
        session = open_session(artefact, options)
        for _ in range(RUNS + 2):
            session.run(feeds)
        events = json.loads(_end(session.raw).read_text(encoding="utf-8"))
    times: dict[str, list[float]] = {}
    for event in events:
        name = event.get("name", "")
        if event.get("cat") == "Node" and name.endswith(_KERNEL):
            times.setdefault(name.removesuffix(_KERNEL), []).append(float(event["dur"]))
    return {name: runs[2:] or runs for name, runs in times.items()}


def _end(raw: ort.InferenceSession) -> Path:
    """End a profile; where its file is."""
    return Path(raw.end_profiling())  # type: ignore[no-untyped-call]
