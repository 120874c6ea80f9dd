"""Graphs run as they are, whatever their size and wherever their weights lie."""

import threading
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.onnxruntime import executor as executor_module
from qcompile.targets.onnxruntime.executor import (
    OrtExecutor,
    open_artefact,
    open_session,
    session_options,
    weight_bytes,
)
from tests.passes.prepare.checking import parse, rand

W = rand(4, 3)
X = rand(2, 4, seed=1)


def model() -> ir.Model:
    return parse(
        """g (float[n, 4] x) => (float[n, 3] y) {
            c = MatMul (x, w)
            r = Relu (c)
            y = Neg (r)
        }""",
        {"w": W},
    )


def external(tmp_path: Path) -> ir.Model:
    ir.save(model(), tmp_path / "m.onnx", external_data="weights.bin", size_threshold_bytes=0)
    loaded = ir.load(tmp_path / "m.onnx")
    assert isinstance(loaded.graph.initializers["w"].const_value, ir.ExternalTensor)
    return loaded


@pytest.mark.parametrize("in_file", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_values_from_the_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_file: bool, elsewhere: bool
) -> None:
    """The four ways to hand a model over give the same, and leave it as it was."""
    if in_file:
        monkeypatch.setattr(executor_module, "_ONE_MESSAGE", 1)
    graph = external(tmp_path) if elsewhere else model()
    tensor = graph.graph.initializers["w"].const_value
    session = OrtExecutor().load(graph, ["c", "y", "r"])
    assert (session.input_names, session.output_names) == (("x",), ("c", "y", "r"))
    c, y, r = session.run({"x": X})
    assert np.abs(c - X @ W).max() < 1e-6
    assert np.array_equal(r, np.maximum(c, 0))
    assert np.array_equal(y, -r)
    assert [v.name for v in graph.graph.outputs] == ["y"]
    assert graph.graph.initializers["w"].const_value is tensor
    assert session.input_types == {"x": "tensor(float)"}


def test_the_graphs_own_outputs_by_default() -> None:
    session = OrtExecutor().load(model())
    assert session.output_names == ("y",)
    assert len(session.run({"x": X})) == 1


def test_an_input_can_be_an_output() -> None:
    session = OrtExecutor().load(model(), ["x", "y"])
    x, _ = session.run({"x": X})
    assert np.array_equal(x, X)


def test_a_finished_model_shows_its_inside() -> None:
    data = ir.to_proto(model()).SerializeToString()
    session = open_artefact(data, ["r"])
    assert np.abs(session.run({"x": X})[0] - np.maximum(X @ W, 0)).max() < 1e-6


def test_unoptimized_keeps_every_node(tmp_path: Path) -> None:
    options = session_options(optimize=False)
    assert options.graph_optimization_level.name == "ORT_DISABLE_ALL"
    assert session_options(exact=True).get_session_config_entry("session.x64quantprecision") == "1"
    assert (session_options(threads=3).intra_op_num_threads, options.intra_op_num_threads) == (3, 1)


def test_sessions_run_from_many_threads() -> None:
    session = OrtExecutor().load(model())
    inputs = [rand(2, 4, seed=i) for i in range(16)]
    found: dict[int, np.ndarray] = {}

    def work(i: int) -> None:
        found[i] = session.run({"x": inputs[i]})[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, x in enumerate(inputs):
        assert np.abs(found[i] + np.maximum(x @ W, 0)).max() < 1e-6


def test_what_the_runtime_refuses_is_said_in_its_words() -> None:
    broken = model()
    broken.graph.node(0).op_type = "NoSuchOp"
    with pytest.raises(QCompileError) as caught:
        OrtExecutor().load(broken)
    assert caught.value.code is Code.RUNTIME_REFUSED
    assert "NoSuchOp" in caught.value.message
    assert "\n" not in caught.value.message
    assert "[ONNXRuntimeError]" not in caught.value.message


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(QCompileError) as caught:
        open_session(Path("/no/such/model.onnx"), session_options())
    assert caught.value.code is Code.RUNTIME_REFUSED


@pytest.mark.parametrize("feeds", [{}, {"x": rand(2, 5)}, {"x": X.astype(np.float64)}, {"z": X}])
def test_feeds_that_do_not_fit(feeds: dict[str, np.ndarray]) -> None:
    session = OrtExecutor().load(model())
    with pytest.raises(QCompileError) as caught:
        session.run(feeds)
    assert caught.value.code is Code.RUNTIME_FAILED


def test_weights_of_branches_count() -> None:
    graph = parse(
        """g (float[4] x, bool c) => (float[4] y) <float[4] v = {1, 2, 3, 4}> {
            y = If (c) <
                then_branch = t () => (float[4] a) <float[2] u = {1, 2}> {
                    k = Concat <axis = 0> (u, u)
                    a = Add (k, v)
                },
                else_branch = e () => (float[4] b) { b = Neg (x) }
            >
        }"""
    )
    assert weight_bytes(graph) == 4 * 4 + 2 * 4
