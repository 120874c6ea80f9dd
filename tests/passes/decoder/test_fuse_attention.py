"""Fused attention computes what the plain operators do, in prefill and decode, padded or not."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.passes.decoder.find import find_decoder
from qcompile.passes.decoder.fuse_attention import DOMAIN, FuseAttention, why_not_fused
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.decoders import VOCABULARY, Shape, cache_names, canonical, decoder, feeds

PLAIN = Shape()
CLOSE = 2e-5
"""Logits are of the order of 5: float sums in another order."""

SHAPES = {
    "half": PLAIN,
    "interleaved": replace(PLAIN, rotary="interleaved"),
    "partial": replace(PLAIN, rotary="partial", size=32),
    "partial of few": replace(PLAIN, rotary="partial"),
    "none": replace(PLAIN, rotary=""),
    "every head its own keys": replace(PLAIN, kv_heads=4, norm="layer", bias=True, gated=False),
    "one head of keys": replace(PLAIN, heads=3, kv_heads=1, size=64),
    "counted positions": replace(PLAIN, positions=False),
    "counted by the cache": replace(PLAIN, positions=False, counts_past=True),
    "window": replace(PLAIN, window=3),
}


class Pair:
    """A decoder as it is and fused."""

    def __init__(self, shape: Shape) -> None:
        self.shape, model = shape, canonical(decoder(shape))
        self.fused = model.clone()
        assert FuseAttention(positions=64)(self.fused).modified
        self.plain_run = OrtExecutor().load(model)
        self.fused_run = OrtExecutor().load(self.fused)

    def differ(self, given: dict[str, np.ndarray]) -> float:
        """The most that logits of tokens that are not masked differ, and that caches do."""
        a, b = self.plain_run.run(given), self.fused_run.run(given)
        batch, length = given["input_ids"].shape
        seen = given["attention_mask"][:, -length:].astype(bool)
        differences = [np.abs(a[0][seen] - b[0][seen]).max()]
        kept = given["attention_mask"].astype(bool)
        for x, y in zip(a[1:3], b[1:3], strict=True):  # later ones follow from masked tokens too
            assert x.shape == y.shape
            differences.append(np.abs(x - y).transpose(0, 2, 1, 3)[kept].max())
        assert batch
        return float(max(differences))


def tokens(batch: int, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, VOCABULARY, (batch, length))


@pytest.mark.parametrize("name", SHAPES)
def test_prefill_and_decode(name: str) -> None:
    shape, pair = SHAPES[name], Pair(SHAPES[name])
    assert not [n for n in pair.fused.graph if n.op_type == "Softmax"]
    rotates = {
        a.as_int() for n in pair.fused.graph for k, a in n.attributes.items() if k == "do_rotary"
    }
    assert rotates == {int(name not in {"none", "partial of few"})}
    for length in (1, 7):
        assert pair.differ(feeds(shape, tokens(3, length))) < CLOSE
    for length in (1, 4):
        assert pair.differ(_behind(pair, shape, 3, 9, length)) < CLOSE


def _behind(
    pair: Pair, shape: Shape, batch: int, before: int, length: int
) -> dict[str, np.ndarray]:
    """Feeds of further tokens, the cache as the plain graph leaves it."""
    made = pair.plain_run.run(feeds(shape, tokens(batch, before)))
    return feeds(shape, tokens(batch, length, 1), made[1:])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", ["half", "counted positions", "window"])
def test_padding(name: str, side: str) -> None:
    shape, pair = SHAPES[name], Pair(SHAPES[name])
    mask = np.ones((3, 7), np.int64)
    mask[0, :3] = mask[1, :1] = 0
    mask = mask if side == "left" else mask[:, ::-1].copy()
    places = np.maximum(mask.cumsum(1) - 1, 0)
    given = feeds(shape, tokens(3, 7), attention_mask=mask)
    if shape.positions:
        given["position_ids"] = places
    assert pair.differ(given) < CLOSE
    made = pair.plain_run.run(given)
    longer = np.concatenate([mask, np.ones((3, 2), np.int64)], 1)
    behind = feeds(shape, tokens(3, 2, 1), made[1:], attention_mask=longer)
    if shape.positions:
        behind["position_ids"] = places[:, -1:] + np.array([[1, 2]])
    assert pair.differ(behind) < CLOSE


def test_a_cache_that_fills_up() -> None:
    """Token by token gives what one prefill gives; where the table ends the runtime says so."""
    pair = Pair(PLAIN)
    text, caches = tokens(2, 64), None
    whole = pair.plain_run.run(feeds(PLAIN, text))[0]
    for at in range(64):
        made = pair.fused_run.run(feeds(PLAIN, text[:, at : at + 1], caches))
        assert np.abs(made[0][:, 0] - whole[:, at]).max() < CLOSE
        caches = made[1:]
    with pytest.raises(Exception, match="total_sequence_length"):
        pair.fused_run.run(feeds(PLAIN, text[:, :1], caches))


@pytest.mark.parametrize("name", ["half", "counted by the cache"])
def test_a_cache_of_full_length(name: str) -> None:
    """As clients have it that let caches be written in place: behind the tokens lies anything."""
    shape, pair = SHAPES[name], Pair(SHAPES[name])
    given = _behind(pair, shape, 2, 9, 1)
    wanted = pair.fused_run.run(given)
    noise = np.random.default_rng(5).normal(size=(2, 2, 20, 16)).astype(np.float32)
    for cache in cache_names(shape, "past_key_values"):
        given[cache] = np.concatenate([given[cache], noise], axis=2)
    made = pair.fused_run.run(given)
    assert np.abs(made[0] - wanted[0]).max() < CLOSE
    for a, b in zip(made[1:], wanted[1:], strict=True):
        assert a.shape[2] == 29
        assert np.abs(a[:, :, :10] - b).max() < CLOSE


def test_without_a_cache() -> None:
    shape = replace(PLAIN, cache=False)
    pair = Pair(shape)
    given = feeds(shape, tokens(2, 6))
    a, b = pair.plain_run.run(given), pair.fused_run.run(given)
    assert np.abs(a[0] - b[0]).max() < CLOSE


def test_ends_and_names_stay() -> None:
    pair = Pair(PLAIN)
    assert pair.fused_run.output_names == pair.plain_run.output_names
    assert pair.fused_run.input_names == pair.plain_run.input_names
    assert pair.fused.opset_imports[DOMAIN] == 1
    node = next(n for n in pair.fused.graph if n.op_type == "GroupQueryAttention")
    assert [v.name for v in node.outputs[1:]] == cache_names(PLAIN, "present")[:2]
    assert "Softmax" in node.metadata_props["qcompile.source"]


def test_a_second_run_changes_nothing() -> None:
    model = canonical(decoder(PLAIN))
    assert FuseAttention()(model).modified
    before = ir.serde.serialize_model(model).SerializeToString()
    assert not FuseAttention()(model).modified
    assert ir.serde.serialize_model(model).SerializeToString() == before


def test_an_encoder_stays() -> None:
    model = canonical(decoder(replace(PLAIN, causal=False)))
    assert not FuseAttention()(model).modified


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (replace(PLAIN, size=4), "heads of a multiple of 8, not 4"),
        (replace(PLAIN, value_size=8), "keys have 16 channels, those of values 8"),
    ],
)
def test_heads_that_the_operator_does_not_take_stay(shape: Shape, words: str) -> None:
    model = canonical(decoder(shape))
    found = find_decoder(model.graph)
    assert found is not None
    assert words in why_not_fused(found)
    assert not FuseAttention()(model).modified
