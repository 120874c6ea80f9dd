"""What a decoder takes besides its tokens is made as it would be fed, where it is missing."""

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from qcompile.compiler.data.decoder import MadeFeeds, complete, made_notes
from qcompile.compiler.data.open import open_data
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.decoder_ends import DecoderEnds, decoder_ends
from qcompile.core.errors import Code
from qcompile.core.signature import Signature
from tests.compiler.data.helpers import refused
from tests.compiler.tiny_decoder import HEADS, SIZE, VOCABULARY, tiny_decoder

PAST = "past_key_values.0.key"


@pytest.fixture(scope="module")
def signature(tmp_path_factory: pytest.TempPathFactory) -> Signature:
    path = tmp_path_factory.mktemp("decoder") / "tiny.onnx"
    path.write_bytes(tiny_decoder().SerializeToString())
    return load_onnx(path).signature


@pytest.fixture(scope="module")
def ends(signature: Signature) -> DecoderEnds:
    found = decoder_ends(signature)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["uint16", "int32", "int64", "uint8"])
def test_tokens_alone_feed_a_decoder(signature: Signature, tmp_path: Path, kind: str) -> None:
    rows = np.arange(15).reshape(3, 5).astype(kind)
    np.savez(tmp_path / "tokens.npz", input_ids=rows)
    data = open_data(tmp_path / "tokens.npz", signature)
    assert len(data) == 3
    feeds = data[1].feeds
    assert isinstance(feeds, MadeFeeds)
    np.testing.assert_array_equal(feeds["input_ids"], [[5, 6, 7, 8, 9]])
    np.testing.assert_array_equal(feeds["attention_mask"], np.ones((1, 5)))
    np.testing.assert_array_equal(feeds["position_ids"], [[0, 1, 2, 3, 4]])
    assert feeds[PAST].shape == (1, HEADS, 0, SIZE)
    session = ort.InferenceSession(tiny_decoder().SerializeToString())
    assert session.run(["logits"], dict(feeds))[0].shape == (1, 5, VOCABULARY)


def test_one_array_is_the_tokens(signature: Signature, tmp_path: Path) -> None:
    np.save(tmp_path / "tokens.npy", np.arange(8).reshape(2, 4))
    assert len(open_data(tmp_path / "tokens.npy", signature)) == 2
    assert len(open_data(np.arange(8).reshape(2, 4), signature)) == 2


def test_a_folder_of_texts_of_different_lengths(signature: Signature, tmp_path: Path) -> None:
    for count in (3, 6):
        np.savez(tmp_path / f"{count}.npz", input_ids=np.arange(count, dtype=np.int32))
    data = open_data(tmp_path, signature)
    assert [data[i].feeds["attention_mask"].shape for i in range(2)] == [(1, 3), (1, 6)]


def test_what_the_data_give_is_kept(signature: Signature, tmp_path: Path) -> None:
    mask = np.array([[0, 0, 1, 1]])
    np.savez(tmp_path / "t.npz", input_ids=np.arange(4).reshape(1, 4), attention_mask=mask)
    feeds = open_data(tmp_path / "t.npz", signature)[0].feeds
    np.testing.assert_array_equal(feeds["attention_mask"], mask)
    np.testing.assert_array_equal(feeds["position_ids"], [[0, 0, 0, 1]])
    assert isinstance(feeds, MadeFeeds)
    assert "attention_mask" not in feeds.made


def test_the_mask_covers_a_cache_that_is_given(ends: DecoderEnds) -> None:
    caches = {c.taken.name: np.zeros((1, HEADS, 7, SIZE), np.float32) for c in ends.caches}
    feeds = complete(ends, {"input_ids": np.zeros((1, 2), np.int64), **caches})
    assert feeds["attention_mask"].shape == (1, 9)
    np.testing.assert_array_equal(feeds["position_ids"], [[7, 8]])


def test_nothing_is_made_of_complete_feeds(ends: DecoderEnds) -> None:
    feeds = dict(complete(ends, {"input_ids": np.zeros((2, 3), np.int64)}))
    assert complete(ends, feeds) is feeds
    assert made_notes(ends, feeds) == []


def test_the_report_says_what_was_made(ends: DecoderEnds) -> None:
    feeds = complete(ends, {"input_ids": np.zeros((1, 3), np.int64)})
    (note,) = made_notes(ends, feeds)
    assert str(note) == (
        "made for the samples, which do not give them: attention_mask (ones), "
        "position_ids (0, 1, ...), 2 empty caches (past_key_values.0.key, ...)"
    )


def test_tokens_cannot_be_made(signature: Signature, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", attention_mask=np.ones((1, 4), np.int64), z=np.ones((1, 4)),
             w=np.ones(3))  # fmt: skip
    refused(Code.DATA_NAMES, "input_ids", when=lambda: open_data(tmp_path / "t.npz", signature))
