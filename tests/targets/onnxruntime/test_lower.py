"""The QDQ graph is all that lowering reads, and the same graph gives the same bytes."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.core.backend import TARGET_KEY
from qcompile.core.errors import Code, QCompileError
from qcompile.core.graph import PASS_KEY, SOURCE_KEY
from qcompile.targets.catalog import load_target
from qcompile.targets.onnxruntime import lower as lower_module
from qcompile.targets.onnxruntime.lower import lower
from tests.passes.prepare.checking import parse, rand
from tests.targets.onnxruntime.running import run_bytes, run_plain

AVX2 = load_target("ort-x86-avx2")
X = rand(3, 8)


def static() -> ir.Model:
    """Gemm and Relu between quantizers, with a weight a channel."""
    return parse(
        """g (float[n, 8] x) => (float[n, 4] y) {
            q = QuantizeLinear (x, sx, zx)
            a = DequantizeLinear (q, sx, zx)
            b = DequantizeLinear <axis = 1> (w, sw, zw)
            c = Gemm (a, b)
            r = Relu (c)
            p = QuantizeLinear (r, sy, zy)
            y = DequantizeLinear (p, sy, zy)
        }""",
        {
            "w": np.random.default_rng(0).integers(-64, 64, (8, 4)).astype(np.int8),
            "sw": np.full(4, 0.01, np.float32),
            "zw": np.zeros(4, np.int8),
            "sx": np.float32(0.03),
            "zx": np.uint8(128),
            "sy": np.float32(0.02),
            "zy": np.uint8(0),
        },
    )


def dynamic() -> ir.Model:
    return parse(
        """g (float[n, 8] x) => (float[n, 4] y) {
            q, s, z = DynamicQuantizeLinear (x)
            a = DequantizeLinear (q, s, z)
            b = DequantizeLinear (w, sw, zw)
            y = MatMul (a, b)
        }""",
        {
            "w": np.random.default_rng(0).integers(-64, 64, (8, 4)).astype(np.int8),
            "sw": np.float32(0.01),
            "zw": np.int8(0),
        },
    )


def floating() -> ir.Model:
    return parse(
        """g (float[n, 8] x) => (float[n, 4] y) {
            c = MatMul (x, w)
            y = LayerNormalization (c, s)
        }""",
        {"w": rand(8, 4), "s": np.ones(4, np.float32)},
    )


MODELS = {"static": static, "dynamic": dynamic, "float": floating}


def noted(name: str) -> ir.Model:
    """A model with every note that passes and users leave on one."""
    model = MODELS[name]()
    model.producer_name, model.producer_version = "pytorch", "2.9"
    model.doc_string, model.domain, model.model_version = "about", "org.example", 7
    model.metadata_props["author"] = "someone"
    model.graph.doc_string = "graph"
    model.graph.metadata_props["k"] = "v"
    for node in model.graph:
        node.doc_string = "File /home/someone/train.py"
        node.metadata_props.update({SOURCE_KEY: "user_node", PASS_KEY: "Pass"})
        for value in node.outputs:
            value.metadata_props["k"] = "v"
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props["k"] = "v"
        value.doc_string = "value"
    return model


def as_bytes(model: ir.Model) -> bytes:
    return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


@pytest.mark.parametrize("name", MODELS)
def test_the_qdq_graph_stays_as_it_is(name: str) -> None:
    model = noted(name)
    before = as_bytes(model)
    first = lower(model, AVX2)
    assert as_bytes(model) == before
    assert lower(model, AVX2) == first


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_qdq_file_alone_is_lowered_to_the_same_bytes(name: str, tmp_path: Path) -> None:
    model = noted(name)
    ir.save(model, tmp_path / "qdq.onnx")
    assert lower(ir.load(tmp_path / "qdq.onnx"), AVX2) == lower(model, AVX2)


@pytest.mark.parametrize("name", MODELS)
def test_external_tensors_are_taken_in(name: str, tmp_path: Path) -> None:
    model = noted(name)
    ir.save(model, tmp_path / "qdq.onnx", external_data="qdq.data", size_threshold_bytes=0)
    loaded = ir.load(tmp_path / "qdq.onnx")
    tensors = [v.const_value for v in loaded.graph.initializers.values()]
    assert any(isinstance(t, ir.ExternalTensor) for t in tensors)
    assert lower(loaded, AVX2) == lower(model, AVX2)
    assert [v.const_value for v in loaded.graph.initializers.values()] == tensors, "untouched"


@pytest.mark.parametrize("name", MODELS)
def test_the_artefact_computes_what_the_qdq_graph_says(name: str) -> None:
    model = MODELS[name]()
    artefact = lower(model, AVX2)
    onnx.checker.check_model(onnx.load_from_string(artefact), full_check=True)
    (wanted,) = run_plain(model, {"x": X})
    for optimize in (False, True):
        (got,) = run_bytes(artefact, {"x": X}, optimize=optimize)
        step = 0.02 if name == "static" else 1e-5 * np.abs(wanted).max()
        assert np.abs(got - wanted).max() <= step * (optimize or name != "static") * 1.001


@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_the_user_or_of_ours_is_left_but_the_names(name: str) -> None:
    artefact = lower(noted(name), AVX2)
    proto = onnx.load_from_string(artefact)
    assert (proto.producer_name, proto.producer_version) == ("qcompile", "")
    assert [(p.key, p.value) for p in proto.metadata_props] == [(TARGET_KEY, "ort-x86-avx2")]
    assert (proto.doc_string, proto.domain, proto.model_version) == ("", "", 0)
    for trace in (b"someone", b"qcompile.source", b"user_node", b"pytorch", b"org.example"):
        assert trace not in artefact
    assert not proto.graph.value_info
    assert [i.name for i in proto.graph.input] == ["x"]
    assert [o.name for o in proto.graph.output] == ["y"]


def test_clamps_and_dynamic_matmuls_take_their_runtime_form() -> None:
    ops = [n.op_type for n in onnx.load_from_string(lower(static(), AVX2)).graph.node]
    assert "Relu" not in ops
    ops = [n.op_type for n in onnx.load_from_string(lower(dynamic(), AVX2)).graph.node]
    assert "MatMulInteger" in ops
    assert "DequantizeLinear" not in ops


def test_initializers_that_lost_their_reader_go_and_outputs_stay() -> None:
    model = parse(
        "g (float[n, 4] x) => (float[n, 4] y, float[4] c) { y = Neg (x) }",
        {"c": np.ones(4, np.float32), "unused": np.ones(4, np.float32)},
    )
    proto = onnx.load_from_string(lower(model, AVX2))
    assert [t.name for t in proto.graph.initializer] == ["c"]


def test_what_a_branch_reads_stays() -> None:
    model = parse(
        """g (float[4] x, bool c) => (float[4] y) {
            y = If (c) <
                then_branch = t () => (float[4] a) { a = Add (x, w) },
                else_branch = e () => (float[4] b) { b = Neg (x) }
            >
        }""",
        {"w": np.ones(4, np.float32)},
    )
    artefact = lower(model, AVX2)
    feeds = {"x": np.zeros(4, np.float32), "c": np.array(True)}
    assert run_bytes(artefact, feeds)[0].tolist() == [1, 1, 1, 1]


def test_more_weights_than_a_file_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lower_module, "ONE_FILE", 100)
    with pytest.raises(QCompileError) as caught:
        lower(floating(), AVX2)
    assert caught.value.code is Code.SCHEME_UNSUPPORTED
    assert "GiB" in caught.value.message
