"""Writes ``genai_config.json`` and what else onnxruntime-genai needs beside a decoder."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import onnx

from qcompile.compiler.genai.known import CONFIG, TOKENIZER_CONFIG, Known
from qcompile.core.decoder_ends import EXACT, Cache, DecoderEnds, decoder_ends
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Signature

_KINDS: Final = frozenset(
    {
        "chatglm", "ernie4_5", "gemma", "gemma2", "gemma3_text", "granite", "internlm2", "llama",
        "mistral", "nemotron", "olmo", "phi", "phi3", "phi3small", "phimoe", "qwen2", "qwen3",
        "smollm3",
    }
)  # fmt: skip
"""Kinds of decoders of one graph that onnxruntime-genai runs in the same way."""
_ANY_KIND: Final = "llama"
_LONGEST: Final = 2048
"""Most tokens of a text unless a client asks for more: caches written in place are that long."""
_ATTENTION: Final = "GroupQueryAttention"


def check_decoder(signature: Signature, caches: str = "") -> DecoderEnds:
    """The ends of a model that onnxruntime-genai can run.

    Args:
        signature: of a float model or an artefact.
        caches: what its caches are to become, as ``kv8``.

    Raises:
        QCompileError: BAD_OPTION for a model that is no decoder with caches, or whose caches have
            or will have parts.
    """
    ends = decoder_ends(signature)
    if ends is None or not ends.caches:
        raise QCompileError(
            Code.BAD_OPTION,
            "--emit genai needs a decoder with caches: inputs like past_key_values.0.key, outputs "
            "like present.0.key and logits",
            hint="export the model with past keys and values",
        )
    if caches == "kv2" or any(cache.taken.name.endswith(EXACT) for cache in ends.caches):
        raise QCompileError(
            Code.BAD_OPTION,
            "--emit genai: packed caches have parts (tokens that stay floats, scales), and "
            "onnxruntime-genai hands on one tensor a layer for keys and one for values",
            hint="+kv8 or +kv4, which one operator stores",
        )
    _pattern([cache.taken.name for cache in _of_kind(ends, "k")])
    return ends


def genai_files(
    known: Known, artefact: bytes, signature: Signature, filename: str
) -> dict[str, bytes]:
    """The files beside an artefact, by name.

    Args:
        known: of the model.
        artefact: the finished ONNX file.
        signature: its ends.
        filename: what it is called.

    Raises:
        QCompileError: BAD_OPTION where the ends do not fit; BAD_CONFIG where the number of heads
            is not known.
    """
    config = genai_config(known, check_decoder(signature), _attention_heads(artefact), filename)
    made = {CONFIG: (json.dumps(config, indent=2) + "\n").encode()}
    made |= {name: path.read_bytes() for name, path in known.files.items()}
    made.setdefault(TOKENIZER_CONFIG, _tokenizer_config(known))
    return made


def genai_config(
    known: Known, ends: DecoderEnds, attention: Sequence[int], filename: str
) -> dict[str, Any]:
    """The configuration: names of the ends, sizes, and which tokens begin and end a text.

    Args:
        known: of the model.
        ends: of the artefact.
        attention: the query heads of each ``GroupQueryAttention``. Where all layers are such, a
            cache has its full length from the start and is written in place.
        filename: of the artefact.
    """
    keys, values = (_of_kind(ends, kind) for kind in "kv")
    shape = keys[0].taken.shape or ()
    kv_heads, size = (d if isinstance(d, int) else 0 for d in (shape[1], shape[-1]))
    if keys[0].taken.dtype == "uint8":  # two elements a byte
        size *= 2
    heads = attention[0] if attention else known.heads
    if heads is None and known.width:
        heads = known.width // size
    if heads is None:
        raise QCompileError(
            Code.BAD_CONFIG,
            "how many attention heads the model has is not said",
            hint="give a config.json with num_attention_heads beside it",
        )
    inputs = {"input_ids": ends.tokens.name}
    inputs |= {"attention_mask": ends.mask.name} if ends.mask is not None else {}
    inputs |= {"position_ids": ends.positions[0].name} if ends.positions else {}
    return {
        "model": {
            "type": known.kind if known.kind in _KINDS else _ANY_KIND,
            "bos_token_id": known.bos,
            "eos_token_id": known.eos[0] if len(known.eos) == 1 else list(known.eos),
            "pad_token_id": known.pad,
            "context_length": known.context_length,
            "vocab_size": _last(ends),
            "decoder": {
                "session_options": {"provider_options": []},
                "filename": filename,
                "head_size": size,
                "hidden_size": known.width or heads * size,
                "num_attention_heads": heads,
                "num_key_value_heads": kv_heads,
                "num_hidden_layers": len(keys),
                "inputs": {
                    **inputs,
                    "past_key_names": _pattern([c.taken.name for c in keys]),
                    "past_value_names": _pattern([c.taken.name for c in values]),
                },
                "outputs": {
                    "logits": ends.logits.name,
                    "present_key_names": _pattern([c.given.name for c in keys]),
                    "present_value_names": _pattern([c.given.name for c in values]),
                },
            },
        },
        "search": {
            "do_sample": False,
            "max_length": min(known.context_length, _LONGEST),
            "past_present_share_buffer": len(attention) == len(keys),
        },
    }


def _of_kind(ends: DecoderEnds, kind: str) -> list[Cache]:
    """The caches of keys or of values, in the order of the layers."""
    found = [cache for cache in ends.caches if cache.kind == kind]
    if not found or 2 * len(found) != len(ends.caches):
        raise _unlike(ends.caches[0].taken.name)
    return found


def _pattern(names: Sequence[str]) -> str:
    """Names with their layer as ``%d``: ``past_key_values.%d.key``."""
    for match in re.finditer(r"\d+", names[0]):
        head, tail = names[0][: match.start()], names[0][match.end() :]
        if [f"{head}{layer}{tail}" for layer in range(len(names))] == list(names):
            return f"{head}%d{tail}"
    raise _unlike(names[0])


def _unlike(name: str) -> QCompileError:
    return QCompileError(
        Code.BAD_OPTION,
        f"--emit genai: caches like {name!r} are not numbered by layer, one of keys and one of "
        "values each",
        hint="export them as past_key_values.0.key, past_key_values.0.value, ...",
    )


def _attention_heads(artefact: bytes) -> list[int]:
    """Query heads of each ``GroupQueryAttention`` of an artefact."""
    nodes = onnx.load_from_string(artefact).graph.node
    return [
        next(a.i for a in node.attribute if a.name == "num_heads")
        for node in nodes
        if node.op_type == _ATTENTION
    ]


def _last(ends: DecoderEnds) -> int:
    size = (ends.logits.shape or (0,))[-1]
    if not isinstance(size, int):
        raise QCompileError(
            Code.BAD_OPTION, f"--emit genai: the vocabulary of {ends.logits} is not known"
        )
    return size


def _tokenizer_config(known: Known) -> bytes:
    tokens = {"bos_token": known.texts.get(known.bos), "eos_token": known.texts.get(known.eos[0])}
    named: Mapping[str, str] = {name: text for name, text in tokens.items() if text is not None}
    made = {"tokenizer_class": "PreTrainedTokenizerFast", **named}
    return (json.dumps(made, indent=2) + "\n").encode()
