"""A model as C source: a constant array, its size, and the arena it needs where that is known."""

import hashlib
import re
from typing import Final

import numpy as np

ALIGNMENT: Final = 16
"""Bytes; TFLite Micro reads a model in place."""

_BYTES_A_LINE: Final = 16
_HEADER: Final = """\
/* {what}
   {size} bytes, SHA-256 {digest}.
   Written by qcompile; C99 with GNU attributes, C11 or C++11. */
#ifndef {macro}_H_
#define {macro}_H_

#ifdef __cplusplus
extern "C" {{
#endif

#define {macro}_SIZE {size}u
{arena}
/* The model, aligned to {alignment} bytes: tflite::GetModel({name}). */
extern const unsigned char {name}[{macro}_SIZE];

#ifdef __cplusplus
}}
#endif

#endif
"""
_ARENA: Final = """
/* Bytes of the tensor arena, aligned to {alignment}. Measured with TFLite Micro's reference kernels
   and 64-bit pointers: on a microcontroller let its own interpreter say what it used. */
#define {macro}_ARENA_SIZE {arena}u
"""
_SOURCE: Final = """\
/* {what}
   {size} bytes, SHA-256 {digest}. */
#if defined(__cplusplus)
#define QCOMPILE_ALIGNED alignas({alignment})
extern "C" {{
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define QCOMPILE_ALIGNED _Alignas({alignment})
#else
#define QCOMPILE_ALIGNED __attribute__((aligned({alignment})))
#endif

/* As in the header; in C++ it also makes the constant one of the whole program. */
extern const unsigned char {name}[{size}];

QCOMPILE_ALIGNED const unsigned char {name}[{size}] = {{
{bytes}}};

#ifdef __cplusplus
}}
#endif
"""


def c_name(stem: str) -> str:
    """A C identifier from the name of a file without its ending: ``key words.v2`` -> its letters.

    What is no ASCII letter or digit becomes ``_``; with its ending ``_model`` it is no keyword and
    no name of the C library.
    """
    kept = re.sub(r"[^0-9A-Za-z]+", "_", stem).strip("_")
    return f"{'m' if kept[:1].isdigit() else ''}{kept}_model".lstrip("_")


def c_header(data: bytes, stem: str, what: str, arena: int | None = None) -> bytes:
    """The header: array, size, and the size of the arena where one was found.

    Args:
        data: the model.
        stem: its file's name without the ending, for the identifier.
        what: a sentence for whoever opens the file.
        arena: bytes of the smallest arena.
    """
    name = c_name(stem)
    words = {"name": name, "macro": name.upper(), "alignment": ALIGNMENT}
    told = "" if arena is None else _ARENA.format(arena=arena, **words)
    return _HEADER.format(arena=told, **words, **_of(data, what)).encode()


def c_source(data: bytes, stem: str, what: str) -> bytes:
    """The source file; it includes nothing. Equal models and names give equal bytes."""
    words = {"name": c_name(stem), "alignment": ALIGNMENT}
    return _SOURCE.format(bytes=_listed(data), **words, **_of(data, what)).encode()


def _of(data: bytes, what: str) -> dict[str, object]:
    safe = re.sub(r"[^ -~]", "?", what).replace("*/", "* /")
    return {"what": safe, "size": len(data), "digest": hashlib.sha256(data).hexdigest()}


def _listed(data: bytes) -> str:
    """The bytes in hexadecimal, sixteen a line."""
    words = np.array([f"0x{byte:02x}," for byte in range(256)], "S5")
    text = words[np.frombuffer(data, np.uint8)].tobytes().decode()
    width = _BYTES_A_LINE * words.itemsize
    return "".join(f"  {text[i : i + width]}\n" for i in range(0, len(text), width))
