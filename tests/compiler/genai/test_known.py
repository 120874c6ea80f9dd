"""What is known of a model is read from the files beside it, and what is not is asked for."""

from pathlib import Path

import pytest

from qcompile.compiler.genai.known import GenaiConfig, Known, known_of
from qcompile.core.errors import Code, QCompileError
from tests.compiler.genai.helpers import model_folder, write_json

CONTEXT = {"max_position_embeddings": 64}


def known(folder: Path, **given: object) -> Known:
    return known_of(folder / "float.onnx", None, GenaiConfig(**given))  # type: ignore[arg-type]


def refused(folder: Path, code: Code, *words: str, **given: object) -> None:
    with pytest.raises(QCompileError) as caught:
        known(folder, **given)
    assert caught.value.code is code
    for word in words:
        assert word in str(caught.value)


def test_the_only_likely_end_token_is_taken(tmp_path: Path) -> None:
    model_folder(tmp_path, "<s>", "</s>", **CONTEXT, model_type="qwen2", num_attention_heads=2)
    found = known(tmp_path)
    assert (found.bos, found.eos, found.pad, found.context_length) == (0, (1,), 1, 64)
    assert (found.kind, found.heads, found.width) == ("qwen2", 2, None)
    assert found.texts == {0: "<s>", 1: "</s>"}
    assert sorted(found.files) == ["tokenizer.json"]


def test_without_a_beginning_it_is_the_end(tmp_path: Path) -> None:
    model_folder(tmp_path, "</s>", **CONTEXT)
    assert known(tmp_path).bos == 1


def test_configurations_win_over_guesses_and_the_user_over_them(tmp_path: Path) -> None:
    model_folder(tmp_path, **CONTEXT, eos_token_id=5, bos_token_id=6)
    assert known(tmp_path).eos == (5,)
    write_json(tmp_path / "generation_config.json", {"eos_token_id": [7, 8], "pad_token_id": 9})
    found = known(tmp_path)
    assert (found.bos, found.eos, found.pad) == (6, (7, 8), 9)
    found = known(tmp_path, eos=("w3", 11), bos="w0", pad=4, context_length=32, type="phi")
    assert (found.bos, found.eos, found.pad) == (2, (5, 11), 4)
    assert (found.context_length, found.kind) == (32, "phi")


def test_the_tokenizer_may_name_them_by_text(tmp_path: Path) -> None:
    model_folder(tmp_path, "<s>", "</s>", "w7", **CONTEXT)
    told = {"eos_token": {"content": "w7"}, "bos_token": "w1", "model_max_length": 128}
    write_json(tmp_path / "tokenizer_config.json", told)
    found = known(tmp_path)
    assert (found.eos, found.bos, found.context_length) == ((9,), 3, 64)
    (tmp_path / "config.json").unlink()
    assert known(tmp_path).context_length == 128


def test_a_tokenizer_elsewhere(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", **CONTEXT)
    (tmp_path / "model" / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    for place in (tmp_path, tmp_path / "tokenizer.json"):
        found = known_of(model, place, GenaiConfig())
        assert found.paths == (tmp_path / "tokenizer.json",)
    refused(tmp_path / "model", Code.DATA_NOT_FOUND, "tokenizer.json", "--tokenizer")


def test_several_likely_end_tokens_are_asked_about(tmp_path: Path) -> None:
    model_folder(tmp_path, **CONTEXT)
    tokens = [{"id": i, "content": t, "special": True} for i, t in enumerate(["</s>", "<eos>"])]
    write_json(tmp_path / "tokenizer.json", {"added_tokens": tokens, "model": {"vocab": {}}})
    refused(tmp_path, Code.BAD_CONFIG, "</s>, <eos>", "[genai]")
    assert known(tmp_path, eos="<eos>").eos == (1,)


def test_what_nothing_says_is_asked_for(tmp_path: Path) -> None:
    model_folder(tmp_path)
    refused(tmp_path, Code.BAD_CONFIG, "how many tokens", "context_length = N")
    model_folder(tmp_path, "w4", **CONTEXT)
    refused(tmp_path, Code.BAD_CONFIG, "which token ends a text")
    write_json(tmp_path / "generation_config.json", {"eos_token_id": []})
    refused(tmp_path, Code.BAD_CONFIG, "which token ends a text")
    refused(tmp_path, Code.BAD_CONFIG, "'w99'", eos="w99")
    with pytest.raises(QCompileError, match="context_length"):
        GenaiConfig(context_length=0)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    model_folder(tmp_path, **CONTEXT)
    (tmp_path / "config.json").write_text(text)
    refused(tmp_path, Code.DATA_UNREADABLE, "config.json")


def test_files_of_other_forms_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    model_folder(tmp_path, text_config={"max_position_embeddings": 99, "n_head": 3})
    vocabulary = [["<unk>", 0.0], ["</s>", -1.0]]  # a Unigram model's
    data = {"added_tokens": [{"id": 4}, None], "model": {"vocab": vocabulary}}
    write_json(tmp_path / "tokenizer.json", data)
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": "</s>", "bos_token": None})
    found = known(tmp_path)
    assert (found.eos, found.bos, found.context_length, found.heads) == ((1,), 1, 99, 3)
    write_json(tmp_path / "tokenizer.json", {"added_tokens": None, "model": None})
    refused(tmp_path, Code.BAD_CONFIG, "'</s>'")
