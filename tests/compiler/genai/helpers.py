"""The folder of a tiny decoder, a tokenizer for it, and a text that is generated step by step."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from tests.compiler.tiny_decoder import VOCABULARY, tiny_decoder
from tests.decoding import Decoder

WORDS = ["<s>", "</s>", *(f"w{i}" for i in range(VOCABULARY - 2))]


def write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data))


def tokenizer_json(*special: str) -> dict[str, Any]:
    """A tokenizer of words; the ones named are special tokens."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": WORDS.index(text), "content": text, "single_word": False, "lstrip": False,
                "rstrip": False, "normalized": False, "special": True,
            }
            for text in special
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: i for i, word in enumerate(WORDS)},
            "unk_token": "w0",
        },
    }  # fmt: skip


def model_folder(folder: Path, *special: str, **config: object) -> Path:
    """A float decoder with its tokenizer and configuration; the model's path."""
    folder.mkdir(exist_ok=True)
    model = folder / "float.onnx"
    model.write_bytes(tiny_decoder().SerializeToString())
    write_json(folder / "tokenizer.json", tokenizer_json(*(special or ("<s>", "</s>"))))
    if config:
        write_json(folder / "config.json", config)
    return model


def greedy(model: Path, prompt: Sequence[int], count: int) -> list[int]:
    """The prompt and the tokens after it, one at a time, each with the caches of those before."""
    decoder, tokens, new = Decoder(ort.InferenceSession(str(model))), list(prompt), list(prompt)
    while len(tokens) < len(prompt) + count:
        new = [int(decoder(np.array([new]))[0, -1].argmax())]
        tokens += new
    return tokens


def generated(folder: Path, prompt: Sequence[int], count: int, *, ends: bool = False) -> list[int]:
    """The same by onnxruntime-genai, from a folder as it is.

    ``ends``: stop at the end token, as a client does.
    """
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    options = og.GeneratorParams(model)
    least = 0 if ends else len(prompt) + count
    options.set_search_options(max_length=len(prompt) + count, min_length=least)
    generator = og.Generator(model, options)
    generator.append_tokens(np.array([list(prompt)], np.int32))
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)]
