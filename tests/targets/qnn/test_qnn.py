"""QNN's emulation of the HTP: what it takes, its reasons for what it leaves, and its context."""

import numpy as np
import onnx
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.accelerators import accelerator_tool
from qcompile.targets.catalog import load_target
from qcompile.targets.qnn import session as qnn_session
from qcompile.targets.qnn import tool
from qcompile.targets.qnn.session import QnnSession, reasons
from qcompile.targets.qnn.tool import Qnn
from tests.targets.onnxruntime.qdq_models import Builder

TARGET = load_target("ort-qnn-htp")
OPTIONS = {"offload_graph_io_quantization": "0"}
RNG = np.random.default_rng(0)


def conv() -> bytes:
    b = Builder()
    value = b.node("Conv", [b.activation((1, 4, 6, 6)), b.weight((8, 4, 3, 3), 0), b.bias(8, True)])
    b.output(b.quantized(value[0], 0.2, 20))
    return b.model(21).SerializeToString()


def with_erf() -> bytes:
    """Integer, two floats QNN has no operator for, integer, and one more such float."""
    b = Builder()
    value = b.quantized(b.node("Sigmoid", [b.activation((1, 4, 6, 6))])[0], 1 / 256, 0)
    value = b.node("Erf", [b.node("Softsign", [value])[0]])[0]
    value = b.quantized(b.node("Sigmoid", [b.quantized(value, 1 / 128, 128)])[0], 1 / 256, 0)
    b.output(b.node("Erf", [value])[0])
    return b.model(21).SerializeToString()


@pytest.mark.qnn
def test_it_runs_on_the_htp_alone() -> None:
    data = conv()
    model = QnnSession(data, OPTIONS)
    assert {placed.provider for placed in model.placed} == {"QNNExecutionProvider"}
    (name,) = model.input_names
    x = RNG.standard_normal((1, 4, 6, 6)).astype(np.float32)
    got = model.run({name: x})[0]
    from qcompile.targets.onnxruntime.executor import open_artefact

    wanted = open_artefact(data, exact=True).run({name: x})[0]
    assert np.abs(got - wanted).max() <= 0.2 * 1.01  # a step of the output
    with pytest.raises(QCompileError, match="failed while running"):
        model.run({})
    model.close()


@pytest.mark.qnn
def test_what_it_leaves_it_explains() -> None:
    made = accelerator_tool("qnn").accelerate(with_erf(), TARGET)
    found = made.offload
    assert made.data == with_erf()
    assert [node.op for node in found.off] == ["Softsign", "Erf", "Erf"]
    assert all("not supported by QNN EP" in node.reason for node in found.off)
    assert (found.nodes, found.on, found.partitions, found.islands) == (5, 2, 2, 2)


@pytest.mark.qnn
def test_without_fallback_it_is_refused() -> None:
    with pytest.raises(QCompileError, match="assigned to the default CPU EP") as caught:
        QnnSession(with_erf(), OPTIONS)
    assert caught.value.code == Code.ACCELERATOR_REFUSED


@pytest.mark.qnn
def test_a_context_is_compiled_and_runs() -> None:
    data = conv()
    compiled = Qnn().context(data, TARGET)
    assert compiled == Qnn().context(data, TARGET)
    graph = onnx.load_from_string(compiled).graph
    assert [node.op_type for node in graph.node] == ["EPContext"]
    a, b = QnnSession(data, OPTIONS), QnnSession(compiled, OPTIONS)
    x = {a.input_names[0]: RNG.standard_normal((1, 4, 6, 6)).astype(np.float32)}
    assert np.array_equal(a.run(x)[0], b.run(x)[0])
    a.close()
    b.close()


@pytest.mark.qnn
def test_no_context_of_half_a_graph() -> None:
    with pytest.raises(QCompileError) as caught:
        Qnn().context(with_erf(), TARGET)
    assert caught.value.code == Code.ACCELERATOR_REFUSED


def test_without_the_plugin_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "is_installed", lambda: False)
    made = Qnn().accelerate(conv(), TARGET)
    (note,) = made.notes
    assert (note.level, "qcompile-edge[qnn]" in note.message) == ("warning", True)
    monkeypatch.setattr(qnn_session, "is_installed", lambda: False)
    with pytest.raises(QCompileError) as caught:
        QnnSession(conv())
    assert caught.value.code == Code.MISSING_EXTRA


def test_reasons_are_read_from_the_log() -> None:
    log = (
        "2026 [V:onnxruntime:, qnn.cc:1713 LogNodeSupport] Validation FAILED for 2 nodes in "
        "OrtNodeUnit (MatMul) :\n\tOperator type: DequantizeLinear Node name: a b Node index: 1\n"
        "\tOperator type: MatMul Node name: /m/MatMul Node index: 2\n"
        "\tREASON : Failed to add  fused Matmul node.\n\n"
        "2026 [V:] Validation PASSED for 1 nodes in OrtNodeUnit (Add) :\n"
        "\tOperator type: Add Node name: c Node index: 3\n\n"
    )
    assert reasons(log) == dict.fromkeys(("a b", "/m/MatMul"), "Failed to add fused Matmul node.")
