"""Stored caches hold the numbers they should, in as many bytes, and are read back so."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.decoder.find import find_decoder
from qcompile.passes.decoder.store_caches import (
    FIRST,
    RECENT,
    KeyGrid,
    StoreCaches,
    exact_bytes,
    token_bytes,
    why_not_stored,
)
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.decoders import VOCABULARY, Shape, cache_names, canonical, decoder, feeds
from tests.decoding import Decoder

SHAPE = Shape(size=32)


def stored(shape: Shape, bits: int) -> tuple[ir.Model, dict[str, KeyGrid]]:
    model = canonical(decoder(shape))
    channels = shape.kv_heads * shape.size
    rng = np.random.default_rng(3)
    grids = {
        name: KeyGrid(
            rng.uniform(-3, -2, channels).astype(np.float32),
            rng.uniform(4, 6, channels).astype(np.float32) / (2**bits - 1),
        )
        for name in cache_names(shape, "present")[::2]
    }
    assert StoreCaches(bits, grids)(model).modified
    return model, grids


def running(model: ir.Model) -> Decoder:
    return Decoder(OrtExecutor().load(model).raw)


def tokens(batch: int, length: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, VOCABULARY, (batch, length))


def unpacked(codes: np.ndarray, bits: int) -> np.ndarray:
    shifts = np.arange(8 // bits) * bits
    numbers = (codes[..., None] >> shifts.astype(np.uint8)) & (2**bits - 1)
    return numbers.reshape(*codes.shape[:-1], -1)


@pytest.mark.parametrize("bits", [4, 2])
def test_codes_are_those_of_the_grids(bits: int) -> None:
    model, grids = stored(SHAPE, bits)
    plain = OrtExecutor().load(canonical(decoder(SHAPE)))
    text = tokens(2, 50)
    wanted = dict(zip(plain.output_names, plain.run(feeds(SHAPE, text)), strict=True))
    run = running(model)
    logits = run(text)
    assert np.abs(logits - wanted["logits"]).max() < 2e-5  # a prompt is computed exactly
    moved = slice(FIRST, 50 - RECENT)
    for name in cache_names(SHAPE, "present"):
        exact = np.concatenate([wanted[name][:, :, :FIRST], wanted[name][:, :, -RECENT:]], 2)
        assert np.abs(run.state[f"{name}_exact"] - exact).max() < 1e-5
        numbers, codes = wanted[name][:, :, moved], unpacked(run.state[name], bits)
        assert codes.shape == numbers.shape
        if name.endswith("key"):
            grid = [a.reshape(1, 2, 1, -1) for a in (grids[name].lowest, grids[name].step)]
            assert f"{name}_scale" not in run.state
        else:
            scale = run.state[f"{name}_scale"].astype(np.float32)
            assert scale.shape[-1] == 2
            grid = [scale[..., :1], scale[..., 1:]]
            lowest = numbers.min(-1, keepdims=True)
            reach = numbers.max(-1, keepdims=True) - lowest
            assert np.allclose(grid[0], lowest, rtol=1e-3, atol=1e-4)
            assert np.allclose(grid[1], reach / (2**bits - 1), rtol=1e-3)
        ideal = np.clip(np.rint((numbers - grid[0]) / grid[1]), 0, 2**bits - 1)
        assert (np.abs(codes - ideal) <= 1).all()
        assert (codes != ideal).mean() < 1e-3  # ties, where the two models' floats differ


@pytest.mark.parametrize("bits", [4, 2])
def test_what_is_read_back(bits: int) -> None:
    """The next run sees exactly what is stored: float attention over the decoded cache agrees."""
    model, grids = stored(SHAPE, bits)
    run, text = running(model), tokens(2, 50)
    run(text[:, :48])
    caches = []
    for name in cache_names(SHAPE, "present"):
        codes, exact = unpacked(run.state[name], bits), run.state[f"{name}_exact"]
        if name.endswith("key"):
            grid = [a.reshape(1, 2, 1, -1) for a in (grids[name].lowest, grids[name].step)]
        else:
            scale = run.state[f"{name}_scale"].astype(np.float32)
            grid = [scale[..., :1], scale[..., 1:]]
        decoded = (grid[0] + codes * grid[1]).astype(np.float32)
        caches.append(np.concatenate([exact[:, :, :FIRST], decoded, exact[:, :, FIRST:]], 2))
    plain = OrtExecutor().load(canonical(decoder(SHAPE)))
    wanted = plain.run(feeds(SHAPE, text[:, 48:], caches))[0]
    assert np.abs(run(text[:, 48:]) - wanted).max() < 2e-5


def test_a_cache_that_fills_up() -> None:
    """Token by token or in pieces, the same tokens are stored; the bytes are those computed."""
    model, _ = stored(SHAPE, 2)
    graph = find_decoder(canonical(decoder(SHAPE)).graph)
    assert graph is not None
    text = tokens(2, 70)
    single, pieces, before = running(model), running(model), 0
    for at in range(70):
        single(text[:, at : at + 1])
        held = sum(array.nbytes for array in single.state.values())
        if at == FIRST + RECENT - 1:
            assert held == 2 * exact_bytes(graph)
        if at >= FIRST + RECENT:
            assert held - before == 2 * token_bytes(graph, 2)
        before = held
    for start, stop in ((0, 2), (2, 40), (40, 70)):
        pieces(text[:, start:stop])
    assert {n: a.shape for n, a in single.state.items()} == {
        n: a.shape for n, a in pieces.state.items()
    }
    name = cache_names(SHAPE, "present")[0]  # the first layer's do not depend on what was stored
    assert (single.state[name] == pieces.state[name]).mean() > 0.999


@pytest.mark.parametrize("size", [16, 24, 64])
def test_other_sizes(size: int) -> None:
    shape = replace(SHAPE, size=size, rotary="interleaved", heads=3, kv_heads=1)
    model, _ = stored(shape, 2)
    run = running(model)
    run(tokens(1, 44))
    run(tokens(1, 3))
    assert run.state["present.0.key"].shape == (1, 1, 47 - FIRST - RECENT, size // 4)


def test_a_second_run_changes_nothing() -> None:
    model, grids = stored(SHAPE, 2)
    before = ir.serde.serialize_model(model).SerializeToString()
    assert not StoreCaches(2, grids)(model).modified
    assert ir.serde.serialize_model(model).SerializeToString() == before


def test_without_cache_or_grids_it_stays() -> None:
    assert not StoreCaches(2)(canonical(decoder(SHAPE))).modified
    assert not StoreCaches(2)(canonical(decoder(replace(SHAPE, cache=False)))).modified
    assert not StoreCaches(2)(canonical(decoder(replace(SHAPE, size=6)))).modified


def test_values_of_another_size_than_keys_stay() -> None:
    model = canonical(decoder(replace(SHAPE, value_size=16)))
    found = find_decoder(model.graph)
    assert found is not None
    assert "keys have 32 channels, those of values 16" in why_not_stored(found, 2)
