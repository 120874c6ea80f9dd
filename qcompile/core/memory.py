"""Hands freed memory back to the system: what a large model frees in pieces otherwise stays."""

import ctypes
import gc
import sys

from qcompile.core.on_disk import drop_pages


def give_back() -> None:
    """Collect what only circles hold, and let the C library return its free pages.

    Weights that lie on the disk are dropped from memory as well, until they are looked at again.

    glibc keeps freed blocks of up to 32 MB for later, and what was made after them on top. Where
    there is no ``malloc_trim`` nothing more is done.
    """
    gc.collect()
    drop_pages()
    trim()


def trim() -> None:
    """Let the C library return its free pages, where it can."""
    if not sys.platform.startswith("linux"):
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
