"""Random graphs go the whole way: sound artefacts, close to float, the same again from the plan."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.api import BuildResult
from qcompile.core.plan_file import to_json
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime.executor import open_session, session_options
from qcompile.targets.onnxruntime.lower import lower
from tests.compiler import small
from tests.compiler.random_graphs import random_model

TARGETS = ("ort-x86-avx2", "ort-x86-vnni", "ort-arm64")


def errors(model: bytes, artefact: bytes, x: np.ndarray) -> list[float]:
    """Largest error of each output over the largest value, the float model's own step aside."""
    sessions = [
        open_session(m, session_options(exact=True, optimize=False)) for m in (model, artefact)
    ]
    found = []
    for a, b in zip(*(s.run({"x": x[:1]}) for s in sessions), strict=True):
        found.append(float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-2)))
    return found


@pytest.mark.parametrize("seed", range(48))
def test_whole_way(seed: int, tmp_path: Path) -> None:
    model, x = random_model(seed)
    path = small.saved(model, tmp_path)
    target = TARGETS[seed % 3]
    options = {"data": {"x": x}, "target": target, "ends": [None, None, "uint8"][seed % 3]}
    scheme = ["w8a8", "w8a8", "w8a8-dynamic", "float"][seed % 4]
    result = small.built(path, scheme=scheme, out=tmp_path / "out", **options)
    onnx.checker.check_model(onnx.load_from_string(result.artefact), full_check=True)
    again = small.built(path, plan=tmp_path / "out.plan.json", target=None)
    assert again.artefact == result.artefact
    assert to_json(again.plan) == to_json(result.plan)
    assert again.report.coverage == result.report.coverage
    ir.save(result.qdq, tmp_path / "qdq.onnx")
    assert lower(ir.load(tmp_path / "qdq.onnx"), load_target(target)) == result.artefact
    as_planned(result)
    if scheme == "float":
        assert max(errors(model.SerializeToString(), result.artefact, x)) < 1e-4


def as_planned(result: BuildResult) -> None:
    """What the plan meant to be integer is; but for sums behind a MatMul that stay float."""
    meant = {n.name for n in result.plan.nodes.values() if n.mode != "float"}
    lost = [n for n in result.report.coverage.float_nodes if n.name in meant]
    assert all(result.plan.nodes[n.name].mode == "absorbed" for n in lost), lost
    assert all(result.plan.nodes[result.plan.nodes[n.name].into or ""].op == "MatMul" for n in lost)


def test_the_graphs_hold_what_networks_hold() -> None:
    ops = {node.op_type for seed in range(48) for node in random_model(seed)[0].graph.node}
    assert len(ops) >= 22
    for seed in range(48):
        onnx.checker.check_model(random_model(seed)[0], full_check=True)


def test_integer_artefacts_are_close(tmp_path: Path) -> None:
    """Most outputs are within a few percent; a quarter may hold cancellations that are not."""
    found: list[float] = []
    for seed in range(24):
        model, x = random_model(seed)
        result = small.built(small.saved(model, tmp_path, f"{seed}.onnx"), data={"x": x})
        found += errors(model.SerializeToString(), result.artefact, x)
    assert np.quantile(found, 0.5) < 0.02
    assert np.quantile(found, 0.9) < 0.2
