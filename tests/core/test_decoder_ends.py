"""The ends of a language model are found by names, types and shapes, and of no other model."""

import numpy as np
import pytest

from qcompile.core.decoder_ends import decoder_ends
from qcompile.core.signature import Dim, Signature, TensorSpec

IDS = TensorSpec("input_ids", "int64", ("b", "s"))
LOGITS = TensorSpec("logits", "float32", ("b", "s", 100))


def caches(*names: str, dtype: str = "float32", shape: tuple[Dim, ...]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, dtype, shape) for name in names)


def test_a_model_of_tokens_and_logits() -> None:
    found = decoder_ends(Signature((IDS,), (LOGITS,)))
    assert found is not None
    assert (found.tokens, found.logits) == (IDS, LOGITS)
    assert (found.mask, found.positions, found.caches, found.makeable) == (None, (), (), ())


@pytest.mark.parametrize(
    ("taken", "given"),
    [
        (
            ("past_key_values.0.key", "past_key_values.0.value"),
            ("present.0.key", "present.0.value"),
        ),
        (("past_0_k", "past_0_v"), ("present_0_v", "present_0_k")),
        (("past_key_0", "past_value_0"), ("present_value_0", "present_key_0")),
    ],
)
def test_caches_are_paired_by_layer_and_kind(
    taken: tuple[str, str], given: tuple[str, str]
) -> None:
    inputs = (IDS, *caches(*taken, shape=("b", 2, "past", 64)))
    found = decoder_ends(Signature(inputs, (*caches(*given, shape=("b", 2, "t", 64)), LOGITS)))
    assert found is not None
    keys, values = sorted(given, key=lambda name: "value" in name or name.endswith("v"))
    assert [(c.taken.name, c.given.name) for c in found.caches] == [
        (taken[0], keys),
        (taken[1], values),
    ]
    assert found.token_bytes == 2 * 2 * 64 * 4


def test_one_cache_of_keys_and_values_together() -> None:
    shape: tuple[Dim, ...] = (2, "b", 3, "past", 8)
    ends = Signature(
        (IDS, *caches("past_0", shape=shape)), (LOGITS, *caches("present_0", shape=shape))
    )
    found = decoder_ends(ends)
    assert found is not None
    cache = found.caches[0]
    assert (cache.batch, cache.axis) == (1, 3)
    assert cache.empty(4).shape == (2, 4, 3, 0, 8)
    assert cache.token_bytes == 2 * 3 * 8 * 4


def test_caches_of_bytes_have_their_own_shape() -> None:
    names = ("past_key_values.0.key",), ("present.0.key",)
    given = [caches(*n, dtype="uint8", shape=("b", 2, "p", 32)) for n in names]
    found = decoder_ends(Signature((IDS, *given[0]), (LOGITS, *given[1])))
    assert found is not None
    empty = found.caches[0].empty(1)
    assert (empty.dtype, empty.shape) == (np.uint8, (1, 2, 0, 32))
    assert found.token_bytes == 64


def test_mask_and_positions() -> None:
    mask = TensorSpec("attention_mask", "int64", ("b", "t"))
    places = TensorSpec("position_ids", "int64", ("b", "s"))
    order = TensorSpec("cache_position", "int64", ("s",))
    found = decoder_ends(Signature((IDS, mask, places, order), (LOGITS,)))
    assert found is not None
    assert (found.mask, found.positions) == (mask, (places, order))
    assert found.makeable == ("attention_mask", "position_ids", "cache_position")


@pytest.mark.parametrize(
    "ends",
    [
        Signature((TensorSpec("x", "float32", ("b", 3)),), (LOGITS,)),
        Signature((IDS,), (TensorSpec("last_hidden_state", "float32", ("b", "s", 384)),)),
        Signature((IDS,), (TensorSpec("logits", "float32", ("b", 2)),)),
        Signature((TensorSpec("input_ids", "float32", ("b", "s")),), (LOGITS,)),
    ],
)
def test_other_models_are_none(ends: Signature) -> None:
    assert decoder_ends(ends) is None


def test_a_cache_of_fixed_length_is_not_made() -> None:
    shape: tuple[Dim, ...] = ("b", 2, 128, 64)
    inputs = (IDS, *caches("past_0_k", shape=shape))
    found = decoder_ends(Signature(inputs, (LOGITS, *caches("present_0_k", shape=shape))))
    assert found is not None
    assert found.caches == ()
