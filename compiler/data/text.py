"""Texts as samples: tokens by the model's own tokenizer, cut into windows or taken line by line.

A decoder reads running text: a file is cut into windows of equal length, one after the other, each
beginning with the token that the tokenizer puts in front of every text, if it does so. What is
left at the end of a file is no window, unless the file is shorter than one. A tokenizer that also
closes every text (``[SEP]``) is that of an encoder: a line is a text, in the tokenizer's own form.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from qcompile.compiler.data.arrays import Source
from qcompile.compiler.data.feeder import Feeder
from qcompile.compiler.data.files import Held, Scratch, Stored
from qcompile.compiler.data.listing import Listed, Listing
from qcompile.core.decoder_ends import TOKENS, is_tokens
from qcompile.core.errors import Code, QCompileError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from qcompile.core.signature import Signature, TensorSpec

SUFFIX: Final = ".txt"
TOKENIZER: Final = "tokenizer.json"
LENGTH: Final = 256
"""Tokens in a window, unless another number is asked for."""
_BLOCK: Final = 1 << 20
"""Characters that are turned into tokens at a time, up to the end of the line."""
_OTHERS: Final = {"attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""Further inputs of encoders, and what tokenizers call them."""


def takes_text(signature: "Signature") -> bool:
    """Whether a model has an input of tokens."""
    return any(is_tokens(spec) for spec in signature.inputs)


def check_tokenizer(tokenizer: Path | None, signature: "Signature") -> None:
    """Refuse a tokenizer for a model that takes no tokens.

    Raises:
        QCompileError: BAD_OPTION.
    """
    if tokenizer is not None and not takes_text(signature):
        names = ", ".join(spec.name for spec in signature.inputs)
        raise QCompileError(
            Code.BAD_OPTION,
            f"--tokenizer: the model has no input of tokens, but {names}",
            hint=f"leave it out; tokens are whole numbers (texts, tokens), named {TOKENS[0]} or "
            f"{', '.join(TOKENS[1:])}",
        )


def list_texts(folder: Path) -> Listing | None:
    """The texts of a folder, sorted by name; None where there are none."""
    files = sorted(p for p in folder.glob(f"*{SUFFIX}") if not p.name.startswith("."))
    listed = tuple(Listed(path, path.name) for path in files)
    return Listing(folder.resolve().name, listed) if listed else None


def text_sources(
    listing: Listing, feeder: Feeder, tokenizer: Path, length: int | None
) -> list[Source]:
    """The samples of some texts.

    Args:
        listing: files in UTF-8.
        feeder: knows the model's inputs.
        tokenizer: a tokenizer.json or its folder.
        length: tokens in a window, and most in a line; None for ``LENGTH``, or what the model's
            input is fixed to.

    Raises:
        QCompileError: DATA_NOT_FOUND or DATA_UNREADABLE for a text or the tokenizer, DATA_EMPTY
            for a text without tokens, DATA_VALUES for tokens that the model does not know,
            MISSING_EXTRA.
    """
    spec = next(spec for spec in feeder.signature.inputs if is_tokens(spec))
    fixed = _fixed_length(spec)
    loaded = load_tokenizer(tokenizer)
    front, closes = _form(loaded)
    own = _Own(spec, loaded, front)
    if closes:
        return list(_lines(listing, feeder, own, fixed, length or LENGTH))
    wanted = fixed or length or LENGTH
    scratch = Scratch()
    return [_windows(file, listing, feeder, own, wanted, scratch) for file in listing.files]


def load_tokenizer(path: Path) -> "Tokenizer":
    """Read a tokenizer.json, named itself or by its folder; it neither cuts nor fills up.

    Raises:
        QCompileError: DATA_NOT_FOUND, DATA_UNREADABLE, MISSING_EXTRA.
    """
    file = path / TOKENIZER if path.is_dir() else path
    if not file.is_file():
        raise QCompileError(Code.DATA_NOT_FOUND, f"there is no tokenizer {file}")
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise QCompileError(
            Code.MISSING_EXTRA,
            "texts need the package `tokenizers`",
            hint="pip install 'qcompile-edge[genai]', or give tokens as .npz",
        ) from error
    try:
        found: Tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # it raises plain Exception for whatever is wrong with a file
        raise QCompileError(
            Code.DATA_UNREADABLE, f"{file} cannot be read as a tokenizer: {error}"
        ) from error
    found.no_truncation()
    found.no_padding()
    return found


def _form(tokenizer: "Tokenizer") -> tuple[list[int], bool]:
    """The tokens in front of every text, and whether there are some behind it too."""
    ids = [int(i) for i in tokenizer.encode("").ids]
    text = tokenizer.encode("a")
    inside = [i for i, special in enumerate(text.special_tokens_mask) if not special]
    closes = bool(inside) and inside[-1] + 1 < len(text.ids)
    return ([] if closes else ids), closes


@dataclass(frozen=True)
class _Own:
    """A model's tokenizer, and the input that its tokens are for."""

    input: "TensorSpec"
    tokenizer: "Tokenizer"
    front: Sequence[int]
    """Tokens in front of every text."""


def _windows(
    file: Listed, listing: Listing, feeder: Feeder, own: _Own, length: int, scratch: Scratch
) -> Source:
    name, tokenizer, front = own.input.name, own.tokenizer, own.front
    parts = [
        np.array(tokenizer.encode(block, add_special_tokens=False).ids, np.int64)
        for block in _blocks(_read(file.path))
    ]
    ids = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    _check(ids, file.path)
    _check_known(ids, feeder, file.path)
    body = max(length - len(front), 1)
    count = max(len(ids) // body, 1)
    rows = ids[: count * body].reshape(count, -1)
    begin = np.broadcast_to(np.array(front, np.int64), (count, len(front)))
    windows, path = np.concatenate([begin, rows], axis=1), scratch.new_file()
    windows.tofile(path)
    stored = Stored(path, windows.shape, windows.dtype, 0, owner=scratch)
    return Source(f"{listing.name}/{file.name}", {name: stored})


def _lines(
    listing: Listing,
    feeder: Feeder,
    own: _Own,
    fixed: int | None,
    most: int,
) -> Iterator[Source]:
    tokenizer = own.tokenizer
    tokenizer.enable_truncation(fixed or most)
    if fixed is not None:
        tokenizer.enable_padding(length=fixed)
    there = {s.name.rpartition(".")[2]: s.name for s in feeder.signature.inputs}
    for file in listing.files:
        found = 0
        for number, line in enumerate(_read(file.path).splitlines(), 1):
            if not line.strip():
                continue
            encoded, found = tokenizer.encode(line.strip()), found + 1
            arrays = {own.input.name: encoded.ids}
            arrays |= {there[n]: getattr(encoded, a) for n, a in _OTHERS.items() if n in there}
            held = {name: Held(np.array([row], np.int64)) for name, row in arrays.items()}
            yield Source(f"{listing.name}/{file.name}, line {number}", held)
        _check(np.zeros(found), file.path)


def _fixed_length(spec: "TensorSpec") -> int | None:
    size = spec.shape[1] if spec.shape is not None else None
    return size if isinstance(size, int) else None


def _blocks(text: str) -> Iterator[str]:
    """The text in parts that end with a line."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + _BLOCK)
        end = len(text) if end < 0 else end + 1
        yield text[start:end]
        start = end


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QCompileError(Code.DATA_UNREADABLE, f"{path} cannot be read: {error}") from error


def _check(tokens: np.ndarray, path: Path) -> None:
    if not tokens.size:
        raise QCompileError(Code.DATA_EMPTY, f"{path} holds no text")


def _check_known(tokens: np.ndarray, feeder: Feeder, path: Path) -> None:
    """Tokens of another tokenizer may be none of the model's."""
    shape = None if feeder.decoder is None else feeder.decoder.logits.shape
    most = shape[-1] if shape else None
    if isinstance(most, int) and int(tokens.max()) >= most:
        raise QCompileError(
            Code.DATA_VALUES,
            f"{path} becomes tokens up to {tokens.max()}, and the model has {most}",
            hint="is this the model's own tokenizer?",
        )
