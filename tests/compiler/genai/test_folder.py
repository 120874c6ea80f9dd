"""The configuration says the names and sizes of the artefact; what cannot run is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import qcompile
from qcompile.compiler.genai.folder import check_decoder, genai_config, genai_files
from qcompile.compiler.genai.known import GenaiConfig, Known, known_of
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Dim, Signature, TensorSpec
from tests.compiler.genai.helpers import model_folder, write_json
from tests.compiler.small import cnn, pictures, saved
from tests.compiler.tiny_decoder import HEADS, SIZE, VOCABULARY

IDS = TensorSpec("input_ids", "int64", ("b", "s"))
LOGITS = TensorSpec("logits", "float32", ("b", "s", 99))


def known(**changes: Any) -> Known:
    values: dict[str, Any] = {
        "files": {}, "bos": 1, "eos": (2,), "pad": 2, "context_length": 5000, "kind": "qwen2",
        "heads": 6, "width": 48,
    }  # fmt: skip
    return Known(**{**values, **changes})


def signature(
    names: tuple[str, ...], dtype: str = "float32", size: int = 8, *inputs: TensorSpec
) -> Signature:
    shape: tuple[Dim, ...] = ("b", 3, "p", size)
    taken = [TensorSpec(f"past_key_values.{n}", dtype, shape) for n in names]
    given = [TensorSpec(f"present.{n}", dtype, shape) for n in names]
    return Signature((IDS, *inputs, *taken), (LOGITS, *given))


BOTH = ("0.key", "0.value", "1.key", "1.value")


def test_names_and_sizes() -> None:
    mask = TensorSpec("attention_mask", "int64", ("b", "t"))
    ends = check_decoder(signature(BOTH, "float32", 8, mask))
    config = genai_config(known(), ends, (), "m.onnx")
    model, decoder = config["model"], config["model"]["decoder"]
    assert model["type"] == "qwen2"
    assert (model["bos_token_id"], model["eos_token_id"], model["vocab_size"]) == (1, 2, 99)
    assert decoder["inputs"] == {
        "input_ids": "input_ids",
        "attention_mask": "attention_mask",
        "past_key_names": "past_key_values.%d.key",
        "past_value_names": "past_key_values.%d.value",
    }
    assert decoder["outputs"]["present_value_names"] == "present.%d.value"
    sizes = ("head_size", "num_attention_heads", "num_key_value_heads", "num_hidden_layers")
    assert [decoder[name] for name in sizes] == [8, 6, 3, 2]
    assert config["search"] == {
        "do_sample": False,
        "max_length": 2048,
        "past_present_share_buffer": False,
    }


def test_caches_are_shared_only_where_every_layer_writes_in_place() -> None:
    ends = check_decoder(signature(BOTH))
    for heads, shared in (((4, 4), True), ((4,), False)):
        config = genai_config(known(heads=None), ends, heads, "m.onnx")
        assert config["search"]["past_present_share_buffer"] is shared
        assert config["model"]["decoder"]["num_attention_heads"] == 4


def test_several_end_tokens_and_kinds_nobody_knows() -> None:
    ends = check_decoder(signature(BOTH))
    config = genai_config(known(eos=(3, 4), kind="strange"), ends, (), "m.onnx")
    assert config["model"]["eos_token_id"] == [3, 4]
    assert config["model"]["type"] == "llama"


def test_heads_follow_from_the_width_or_are_asked_for() -> None:
    ends = check_decoder(signature(BOTH))
    config = genai_config(known(heads=None), ends, (), "m.onnx")
    assert config["model"]["decoder"]["num_attention_heads"] == 6
    with pytest.raises(QCompileError, match="num_attention_heads") as caught:
        genai_config(known(heads=None, width=None), ends, (), "m.onnx")
    assert caught.value.code is Code.BAD_CONFIG


@pytest.mark.parametrize("names", [("0.key", "2.key", "0.value", "2.value"), ("0.a", "0.b")])
def test_caches_of_other_names_are_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(QCompileError, match="numbered by layer"):
        check_decoder(signature(names))


def test_a_model_without_caches_is_refused() -> None:
    with pytest.raises(QCompileError, match="with caches"):
        check_decoder(Signature((IDS,), (LOGITS,)))


def test_caches_with_parts_are_refused_before_work_begins(tmp_path: Path) -> None:
    with pytest.raises(QCompileError, match="packed caches have parts"):
        check_decoder(signature((*BOTH, *(f"{name}_exact" for name in BOTH))))
    model = model_folder(tmp_path / "float", max_position_embeddings=64, hidden_size=16)
    with pytest.raises(QCompileError, match="packed caches have parts"):
        qcompile.build(
            model, target="ort-x86-avx2", out=tmp_path / "o.onnx", scheme="float+kv2",
            emit=["genai"], data=np.zeros((8, 4), np.int64),
        )  # fmt: skip


def test_what_a_tokenizer_lacks_is_written_and_what_it_has_is_copied(tmp_path: Path) -> None:
    model = model_folder(tmp_path, max_position_embeddings=64, hidden_size=16)
    found = known_of(model, None, GenaiConfig())
    proto = onnx.load(model)
    files = genai_files(found, proto.SerializeToString(), signature(BOTH), "m.onnx")
    assert sorted(files) == ["genai_config.json", "tokenizer.json", "tokenizer_config.json"]
    assert files["tokenizer.json"] == (tmp_path / "tokenizer.json").read_bytes()
    assert json.loads(files["tokenizer_config.json"]) == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    write_json(tmp_path / "tokenizer_config.json", {"eos_token": "</s>"})
    found = known_of(model, None, GenaiConfig())
    files = genai_files(found, proto.SerializeToString(), signature(BOTH), "m.onnx")
    assert json.loads(files["tokenizer_config.json"]) == {"eos_token": "</s>"}


def build(model: Path, out: Path, **options: Any) -> None:
    qcompile.build(
        model, target="ort-x86-avx2", out=out, scheme="float", emit=["genai"], latency=False,
        **options,
    )  # fmt: skip


def test_a_build_writes_the_folder(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "float", max_position_embeddings=64, hidden_size=16)
    (tmp_path / "out").mkdir()
    build(model, tmp_path / "out" / "small.onnx")
    config = json.loads((tmp_path / "out" / "genai_config.json").read_text())
    decoder = config["model"]["decoder"]
    assert (decoder["filename"], config["model"]["vocab_size"]) == ("small.onnx", VOCABULARY)
    assert (decoder["head_size"], decoder["num_key_value_heads"]) == (SIZE, HEADS)
    assert (tmp_path / "out" / "tokenizer.json").is_file()


def test_files_of_the_user_beside_the_artefact_are_left(tmp_path: Path) -> None:
    model = model_folder(tmp_path, max_position_embeddings=64, hidden_size=16)
    before = (tmp_path / "tokenizer.json").stat()
    build(model, tmp_path / "small.onnx")
    after = (tmp_path / "tokenizer.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert (tmp_path / "genai_config.json").is_file()


def test_what_is_missing_is_said_before_work_begins(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "float")
    with pytest.raises(QCompileError, match="how many tokens"):
        build(model, tmp_path / "small.onnx")
    assert not list(tmp_path.glob("*.onnx*"))


def test_a_model_of_pictures_has_no_such_folder(tmp_path: Path) -> None:
    model_folder(tmp_path / "float", max_position_embeddings=64)
    model = saved(cnn(), tmp_path)
    with pytest.raises(QCompileError, match="needs a decoder"):
        build(model, tmp_path / "o.onnx", tokenizer=tmp_path / "float", data={"x": pictures(8)})
