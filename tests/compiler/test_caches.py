"""Builds of decoders: attentions fused, caches stored, plans replayed, refusals by name."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompile
from qcompile.core.errors import Code, QCompileError
from tests.decoders import VOCABULARY, Shape, decoder

SHAPE = Shape(layers=1, size=32)
TARGET = "ort-x86-vnni"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    onnx.save(decoder(SHAPE), tmp_path / "decoder.onnx")
    return tmp_path / "decoder.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (12, 60))
    np.savez(tmp_path / "ids.npz", input_ids=ids.astype(np.int64))
    return tmp_path / "ids.npz"


def built(model: Path, data: Path | None, scheme: str, **options: object) -> onnx.ModelProto:
    out = model.with_name(f"{scheme}.onnx")
    given = {"data": data, "out": out, "target": TARGET, "scheme": scheme, "latency": False}
    qcompile.build(model, **(given | options))  # type: ignore[arg-type]
    return onnx.load(out)


def attentions(made: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in made.graph.node if node.op_type == "GroupQueryAttention"]


def ends(made: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """Element type and last dimension of the caches."""
    both = (*made.graph.input, *made.graph.output)
    return {
        v.name: (v.type.tensor_type.elem_type, v.type.tensor_type.shape.dim[-1].dim_value)
        for v in both
        if "key" in v.name or "value" in v.name
    }


@pytest.mark.parametrize("scheme", ["float", "w8"])
def test_attentions_are_fused_and_caches_stay_floats(model: Path, data: Path, scheme: str) -> None:
    made = built(model, data if scheme == "w8" else None, scheme)
    assert len(attentions(made)) == 1
    assert set(ends(made).values()) == {(onnx.TensorProto.FLOAT, 32)}


@pytest.mark.parametrize(
    ("scheme", "kind", "width", "bits"),
    [
        ("float+kv8", onnx.TensorProto.INT8, 32, 8),
        ("w4+kv8", onnx.TensorProto.INT8, 32, 8),
        ("float+kv4", onnx.TensorProto.UINT8, 16, 4),
        ("w8a8-dynamic+kv8", onnx.TensorProto.INT8, 32, 8),
        ("w8a8+kv8", onnx.TensorProto.INT8, 32, 8),
    ],
)
def test_the_operator_stores_caches(
    model: Path, data: Path, scheme: str, kind: int, width: int, bits: int
) -> None:
    made = built(model, data, scheme)
    assert set(ends(made).values()) == {(kind, width)}
    for node in attentions(made):
        attributes = {a.name: a for a in node.attribute}
        assert attributes["kv_cache_bit_width"].i == bits
        assert attributes["k_quant_type"].s == b"PER_CHANNEL"
    report = json.loads(model.with_name(f"{scheme}.onnx.report.json").read_text())
    said = f"take {2 * 2 * width} bytes a token"
    assert any(said in str(note) for note in report["notes"])
    assert report["scheme"] == scheme


def test_two_bits_are_packed_by_plain_operators(model: Path, data: Path) -> None:
    made = built(model, data, "w8+kv2")
    assert not attentions(made)
    found = ends(made)
    assert found["present.0.key"] == (onnx.TensorProto.UINT8, 8)
    assert found["present.0.key_exact"] == (onnx.TensorProto.FLOAT, 32)
    assert found["past_key_values.0.value_scale"] == (onnx.TensorProto.FLOAT16, 2)


@pytest.mark.parametrize("scheme", ["float+kv8", "w8+kv4", "float+kv2"])
def test_a_plan_is_replayed(model: Path, data: Path, scheme: str) -> None:
    first = built(model, data, scheme).SerializeToString()
    plan = model.with_name(f"{scheme}.onnx.plan.json")
    saved = model.with_name("plan.json")
    saved.write_bytes(plan.read_bytes())
    saved.with_suffix(".npz").write_bytes(plan.with_suffix(".npz").read_bytes())
    assert built(model, None, scheme, plan=saved).SerializeToString() == first


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v | {"dtype": "int4"}, "type 'int4' is none of int8"),
        (lambda v: v | {"zero_point": 3}, "takes no zero point"),
    ],
)
def test_edits_that_cannot_be(model: Path, data: Path, change, said: str) -> None:  # type: ignore[no-untyped-def]
    built(model, data, "float+kv8")
    plan = model.with_name("float+kv8.onnx.plan.json")
    document = json.loads(plan.read_text())
    document["values"]["present.0.key"] = change(document["values"]["present.0.key"])
    edited = model.with_name("edited.json")
    edited.write_text(json.dumps(document))
    with pytest.raises(QCompileError, match=said) as caught:
        built(model, None, "float+kv8", plan=edited)
    assert caught.value.code == Code.BAD_PLAN
    assert "present.0.key" in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        (replace(SHAPE, cache=False), "the model has no cache"),
        (replace(SHAPE, causal=False), "no decoder that is understood"),
    ],
)
def test_what_has_no_cache_is_refused(tmp_path: Path, data: Path, shape: Shape, said: str) -> None:
    onnx.save(decoder(shape), tmp_path / "other.onnx")
    with pytest.raises(QCompileError, match=said) as caught:
        built(tmp_path / "other.onnx", data, "float+kv8")
    assert caught.value.code == Code.SCHEME_UNSUPPORTED


def test_without_data_it_is_refused(model: Path) -> None:
    with pytest.raises(QCompileError) as caught:
        built(model, None, "float+kv8")
    assert caught.value.code == Code.NO_DATA
