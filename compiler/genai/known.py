"""What is known of a language model besides its graph: the files of its folder, and the user.

Read are ``config.json``, ``generation_config.json``, ``tokenizer.json`` and
``tokenizer_config.json``, as model hubs have them. What they do not say is asked for, never
guessed: a text that does not end is worse than an error.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from qcompile.core.errors import Code, QCompileError

CONFIG: Final = "genai_config.json"
TOKENIZER: Final = "tokenizer.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
COPIED: Final = (TOKENIZER, TOKENIZER_CONFIG, "special_tokens_map.json", "chat_template.jinja")
"""Files of a tokenizer that a client reads."""

Token = int | str
"""A token by its number or by its text."""

_ENDS: Final = (
    "</s>", "<|endoftext|>", "<|im_end|>", "<|end_of_text|>", "<|eot_id|>", "<eos>",
    "<end_of_turn>", "<|end|>", "<|return|>", "[EOS]", "<|endofprompt|>",
)  # fmt: skip
"""Texts of special tokens that end a text."""
_BEGINNINGS: Final = ("<s>", "<|begin_of_text|>", "<bos>", "[BOS]", "<|startoftext|>")
"""Texts of special tokens that begin one."""
_CONTEXT: Final = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length",
    "context_length", "context",
)  # fmt: skip
"""What configurations call the most tokens of a text."""
_HEADS: Final = ("num_attention_heads", "n_head", "n_heads", "num_heads", "heads")
_WIDTH: Final = ("hidden_size", "n_embd", "d_model", "dim")
_MOST: Final = 1 << 40
"""Numbers from which on a length means that there is none."""


@dataclass(frozen=True)
class GenaiConfig:
    """``[genai]``: what the folder of a model does not say of it, or says wrongly."""

    eos: Token | tuple[Token, ...] | None = None
    """Tokens that end a text, by number or text."""
    bos: Token | None = None
    """Token that begins one."""
    pad: Token | None = None
    """Token that fills up batches."""
    context_length: int | None = None
    """Most tokens of a text."""
    type: str | None = None
    """What onnxruntime-genai calls models of this kind."""

    def __post_init__(self) -> None:
        if self.context_length is not None and self.context_length < 1:
            raise QCompileError(
                Code.BAD_CONFIG,
                f"genai.context_length must be at least 1, not {self.context_length}",
            )


@dataclass(frozen=True)
class Known:
    """All that is known of a language model, as far as a client needs it."""

    files: Mapping[str, Path]
    """Files of the tokenizer: name -> where they are."""
    bos: int
    eos: tuple[int, ...]
    pad: int
    context_length: int
    kind: str
    """Of model, ``llama`` where nothing says so."""
    heads: int | None
    """Of queries; None where nothing says how many."""
    width: int | None
    """Of the hidden states; None where nothing says it."""
    texts: Mapping[int, str] = field(default_factory=dict)
    """The texts of its special tokens."""

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, which are read and never written."""
        return tuple(self.files.values())


def known_of(model: Path, tokenizer: Path | None, given: GenaiConfig) -> Known:
    """Read what lies beside a model, or beside a tokenizer that was named.

    Args:
        model: the float model.
        tokenizer: a tokenizer.json or its folder; None for the folder of the model.
        given: wins over every file.

    Raises:
        QCompileError: DATA_NOT_FOUND where there is no tokenizer; DATA_UNREADABLE for a file that
            is no JSON; BAD_CONFIG for what is neither given nor in a file, with its key.
    """
    folder = _folder(model, tokenizer)
    folders = dict.fromkeys((folder, model.parent))
    files = {name: folder / name for name in COPIED if (folder / name).is_file()}
    tokens = _Tokens(_read(folder / TOKENIZER))
    told = _read(folder / TOKENIZER_CONFIG)
    generation = _first_of("generation_config.json", folders)
    config = _first_of("config.json", folders)
    config = {**config, **(config.get("text_config") or {})}
    eos = _eos(given, (generation, config), told, tokens)
    bos = _one("bos", given.bos, (generation, config), told, tokens)
    if bos is None:
        bos = next((tokens.ids[t] for t in _BEGINNINGS if t in tokens.special), eos[0])
    pad = _one("pad", given.pad, (generation, config), told, tokens)
    return Known(
        files=files,
        bos=bos,
        eos=eos,
        pad=eos[0] if pad is None else pad,
        context_length=_context(given, config, told),
        kind=given.type or str(config.get("model_type") or ""),
        heads=_number(config, _HEADS),
        width=_number(config, _WIDTH),
        texts={number: text for text, number in tokens.ids.items() if text in tokens.special},
    )


class _Tokens:
    """The tokens of a tokenizer.json by their texts, and which of them are special."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        entries = data.get("added_tokens") or ()
        added = [e for e in entries if isinstance(e, Mapping) and {"content", "id"} <= e.keys()]
        self.ids: dict[str, int] = {str(e["content"]): int(e["id"]) for e in added}
        self.special = {str(e["content"]) for e in added if e.get("special")}
        vocabulary = (data.get("model") or {}).get("vocab") or {}
        if isinstance(vocabulary, Mapping):
            self._others: Mapping[str, Any] = vocabulary
        else:  # Unigram: a list of (text, score)
            self._others = {row[0]: i for i, row in enumerate(vocabulary)}

    def number(self, token: Token, what: str) -> int:
        """The number of a token that was named."""
        if isinstance(token, int):
            return token
        found = self.ids.get(token, self._others.get(token))
        if found is None:
            raise QCompileError(Code.BAD_CONFIG, f"{what} {token!r} is no token of {TOKENIZER}")
        return int(found)


def _eos(
    given: GenaiConfig,
    files: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
    tokens: _Tokens,
) -> tuple[int, ...]:
    wanted = given.eos if given.eos is not None else _stated("eos", files, told)
    if wanted not in (None, [], ()):
        each = wanted if isinstance(wanted, tuple | list) else (wanted,)
        return tuple(tokens.number(token, "the end token") for token in each)
    likely = [text for text in _ENDS if text in tokens.special]
    if len(likely) == 1:
        return (tokens.ids[likely[0]],)
    which = f"{TOKENIZER} has {', '.join(likely)}" if likely else f"{TOKENIZER} names none"
    raise QCompileError(
        Code.BAD_CONFIG,
        f"which token ends a text is not said: {which}",
        hint='eos = "TOKEN" under [genai] in qcompile.toml, or a generation_config.json beside it',
    )


def _one(
    what: str,
    given: Token | None,
    files: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
    tokens: _Tokens,
) -> int | None:
    wanted = given if given is not None else _stated(what, files, told)
    if isinstance(wanted, list | tuple):
        wanted = wanted[0] if wanted else None
    return None if wanted is None else tokens.number(wanted, f"the {what} token")


def _stated(what: str, files: Iterable[Mapping[str, Any]], told: Mapping[str, Any]) -> Any:
    """A token that a file names: by number in a configuration, by text in the tokenizer's."""
    for config in files:
        if config.get(f"{what}_token_id") is not None:
            return config[f"{what}_token_id"]
    token = told.get(f"{what}_token")
    return token.get("content") if isinstance(token, Mapping) else token


def _context(given: GenaiConfig, config: Mapping[str, Any], told: Mapping[str, Any]) -> int:
    found = given.context_length or _number(config, _CONTEXT)
    most = told.get("model_max_length")
    if found is None and isinstance(most, int | float) and 0 < most < _MOST:
        found = int(most)
    if found is None:
        raise QCompileError(
            Code.BAD_CONFIG,
            "how many tokens a text may have is not said",
            hint="context_length = N under [genai] in qcompile.toml, or a config.json with "
            "max_position_embeddings beside the model",
        )
    return found


def _number(config: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((int(config[n]) for n in names if isinstance(config.get(n), int)), None)


def _folder(model: Path, tokenizer: Path | None) -> Path:
    place = model.parent if tokenizer is None else tokenizer
    folder = place.parent if place.is_file() else place
    if not (folder / TOKENIZER).is_file():
        raise QCompileError(
            Code.DATA_NOT_FOUND,
            f"there is no {TOKENIZER} in {folder}",
            hint="--tokenizer FOLDER, or tokenizer = ... under [data] in qcompile.toml",
        )
    return folder


def _first_of(name: str, folders: Iterable[Path]) -> dict[str, Any]:
    found = next((folder / name for folder in folders if (folder / name).is_file()), None)
    return {} if found is None else _read(found)


def _read(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise QCompileError(Code.DATA_UNREADABLE, f"{path} holds no JSON object")
    return data
