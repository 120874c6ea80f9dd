"""Texts become windows for decoders and lines for encoders, by the model's own tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.compiler.data.dataset import Dataset
from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.core.errors import Code
from qcompile.core.signature import Dim, Signature, TensorSpec
from tests.compiler.data.helpers import one_input, refused
from tests.compiler.genai.helpers import WORDS, tokenizer_json, write_json
from tests.compiler.tiny_decoder import VOCABULARY

pytestmark = pytest.mark.genai


def decoder(batch: Dim = "b", length: Dim = "s", vocabulary: int = VOCABULARY) -> Signature:
    inputs = ("input_ids", "attention_mask", "position_ids")
    specs = tuple(TensorSpec(name, "int64", (batch, length)) for name in inputs)
    return Signature(specs, (TensorSpec("logits", "float32", (batch, length, vocabulary)),))


ENCODER = Signature(
    tuple(
        TensorSpec(name, "int64", ("b", "s"))
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ),
    (TensorSpec("last_hidden_state", "float32", ("b", "s", 16)),),
)


def template(*before: str, after: tuple[str, ...] = ()) -> dict[str, Any]:
    """A post-processor that puts tokens around each text."""

    def special(text: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": text, "type_id": 0}}

    used = {t: {"id": t, "ids": [WORDS.index(t)], "tokens": [t]} for t in (*before, *after)}
    one = [*map(special, before), {"Sequence": {"id": "A", "type_id": 0}}, *map(special, after)]
    return {"type": "TemplateProcessing", "single": one, "pair": one, "special_tokens": used}


def words(*numbers: int) -> str:
    return " ".join(f"w{n}" for n in numbers)


def opened(folder: Path, signature: Signature, spec: str, tokens: int | None = None,
           **changes: Any) -> Dataset:  # fmt: skip
    write_json(folder / "tokenizer.json", tokenizer_json("<s>", "</s>") | changes)
    return open_data(folder / spec, signature, options=DataOptions(tokenizer=folder, tokens=tokens))


def ids(data: Dataset) -> list[list[int]]:
    return [data[i].feeds["input_ids"][0].tolist() for i in range(len(data))]


def test_a_text_is_cut_into_windows(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(words(*range(1, 8)) + "\n" + words(8, 9, 10))
    data = opened(tmp_path, decoder(), "book.txt", 4)
    assert ids(data) == [[3, 4, 5, 6], [7, 8, 9, 10]]  # two tokens are no window
    feeds = data[1].feeds
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 1, 1]])
    np.testing.assert_array_equal(feeds["position_ids"], [[0, 1, 2, 3]])
    assert data[1].source == "book.txt/book.txt[1]"


def test_the_blocks_of_a_long_text_join_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [words(*(n % 30 for n in range(i, i + 7))) for i in range(40)]
    (tmp_path / "book.txt").write_text("\n".join(lines))
    whole = ids(opened(tmp_path, decoder(), "book.txt", 10))
    monkeypatch.setattr("qcompile.compiler.data.text._BLOCK", 50)
    assert ids(opened(tmp_path, decoder(), "book.txt", 10)) == whole
    assert len(whole) == 28


def test_texts_shorter_than_a_window_keep_their_length(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for count in (3, 6, 10):
        (texts / f"{count:02}.txt").write_text(words(*range(count)))
    data = opened(tmp_path, decoder(), "texts", 5)
    assert [len(row) for row in ids(data)] == [3, 5, 5, 5]


def test_each_window_begins_as_the_tokenizer_begins_texts(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(words(*range(6)))
    data = opened(tmp_path, decoder(), "book.txt", 3, post_processor=template("<s>"))
    assert ids(data) == [[0, 2, 3], [0, 4, 5], [0, 6, 7]]


def test_an_encoder_takes_a_line_at_a_time(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text(f"{words(1, 2)}\n\n{words(3, 4, 5, 6)}\n")
    around = template("<s>", after=("</s>",))
    data = opened(tmp_path, ENCODER, "lines.txt", post_processor=around)
    assert ids(data) == [[0, 3, 4, 1], [0, 5, 6, 7, 8, 1]]
    assert set(data[0].feeds) == {"input_ids", "attention_mask", "token_type_ids"}
    assert data[1].source == "lines.txt/lines.txt, line 3"
    assert ids(opened(tmp_path, ENCODER, "lines.txt", 4, post_processor=around))[1] == [0, 5, 6, 1]


def test_a_tokenizer_that_cuts_or_fills_up_by_itself_does_not(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(words(*range(8)))
    cut = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    assert len(ids(opened(tmp_path, decoder(), "book.txt", 8, truncation=cut))[0]) == 8


def test_a_fixed_length_is_kept(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(words(*range(12)))
    assert [len(row) for row in ids(opened(tmp_path, decoder(length=6), "book.txt"))] == [6, 6]


def test_a_fixed_batch_is_filled_up_with_padding(tmp_path: Path) -> None:
    texts = tmp_path / "texts"
    texts.mkdir()
    for count in (3, 5):
        (texts / f"{count}.txt").write_text(words(*range(count)))
    feeds = opened(tmp_path, decoder(batch=2), "texts")[0].feeds
    np.testing.assert_array_equal(feeds["input_ids"], [[2, 3, 4, 0, 0], [2, 3, 4, 5, 6]])
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def test_mistakes_are_named(tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text("w1 w2 " * 200)
    refused(Code.DATA_NOT_FOUND, "--tokenizer", when=lambda: open_data(text, decoder()))
    refused(Code.DATA_NOT_FOUND, "there is no file", when=lambda: open_data(text, one_input(1, 3)))
    refused(Code.DATA_VALUES, "own tokenizer",
            when=lambda: opened(tmp_path, decoder(vocabulary=4), "book.txt"))  # fmt: skip
    options = DataOptions(tokenizer=tmp_path / "none")
    refused(Code.DATA_NOT_FOUND, "tokenizer",
            when=lambda: open_data(text, decoder(), options=options))  # fmt: skip
    (tmp_path / "tokenizer.json").write_text("{}")
    options = DataOptions(tokenizer=tmp_path)
    refused(Code.DATA_UNREADABLE, "tokenizer",
            when=lambda: open_data(text, decoder(), options=options))  # fmt: skip
    text.write_text(" \n")
    refused(Code.DATA_EMPTY, "no text", when=lambda: opened(tmp_path, decoder(), "book.txt"))
    text.write_bytes(b"\xff\xfe\x00")
    refused(Code.DATA_UNREADABLE, when=lambda: opened(tmp_path, decoder(), "book.txt"))
