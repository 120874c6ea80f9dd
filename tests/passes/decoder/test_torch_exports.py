"""What torch's exporter makes of decoders is recognized, and computes the same when fused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.compiler.options import Scheme
from qcompile.compiler.pipeline import prepare
from qcompile.passes.decoder.find import search_decoder
from qcompile.passes.decoder.fuse_attention import FuseAttention
from qcompile.targets.onnxruntime.executor import OrtExecutor

pytestmark = pytest.mark.torch

ROOT = Path(__file__).resolve().parents[3]
KINDS = {"packed": (4, "layer", None), "neighbours": (2, "rms", True), "halves": (2, "rms", False)}
"""Kind -> heads of keys and values, norm, whether pairs that are turned are neighbours."""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kinds, made in one process of their own: torch warns, and stays in memory."""
    folder = tmp_path_factory.mktemp("exported")
    code = "from pathlib import Path; from tests.passes.decoder.exported import export"
    code += f"\nfor kind in {list(KINDS)}: export(kind, Path({str(folder)!r}) / (kind + '.onnx'))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, capture_output=True)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_recognized_and_fused(kind: str, exported: Path) -> None:
    model = prepare(load_onnx(exported / f"{kind}.onnx"), Scheme())
    search, (kv, norm, neighbours) = search_decoder(model.graph), KINDS[kind]
    assert search.why_not == ""
    found = search.decoder
    assert found is not None
    assert (found.heads, found.kv_heads, found.head_size) == (4, kv, 16)
    assert found.has_cache
    assert found.norm is not None
    assert found.embedding is not None
    for layer in found.layers:
        attention = layer.attention
        assert attention.scale == pytest.approx(0.25)
        assert layer.attention_norm is not None
        assert layer.attention_norm.kind == norm
        assert layer.mlp is not None
        assert (layer.mlp.gate is None) == (kind == "packed")
        query, key = attention.query.linear, attention.key.linear
        assert query is not None
        assert key is not None
        assert (query.node is key.node) == (kind == "packed")
        assert (attention.query.norm is not None) == (kind == "halves")
        rotary = attention.query.rotary
        assert (None if rotary is None else rotary.interleaved) == neighbours
    fused = model.clone()
    assert FuseAttention(positions=64)(fused).modified
    rotates = {a.as_int() for n in fused.graph for k, a in n.attributes.items() if k == "do_rotary"}
    assert rotates == {int(neighbours is not None)}
    plain, one = OrtExecutor().load(model), OrtExecutor().load(fused)
    rng, past = np.random.default_rng(0), [np.zeros((2, kv, 0, 16), np.float32)] * 4
    mask = np.ones((2, 0), np.int64)
    for length in (6, 1, 3):
        mask = np.concatenate([mask, np.ones((2, length), np.int64)], axis=1)
        mask[0, :2] = 0  # one text is padded on the left
        given = {"input_ids": rng.integers(0, 50, (2, length)), "attention_mask": mask}
        names = [n for n in plain.input_names if "past" in n]
        given |= dict(zip(names, past, strict=True))
        a, b = plain.run(given), one.run(given)
        text = mask[:, -length:].astype(bool)
        assert np.abs(a[0][text] - b[0][text]).max() < 2e-5
        past = a[1:]
