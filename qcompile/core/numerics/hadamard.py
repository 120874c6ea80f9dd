"""Orthogonal matrices that spread one channel over all: Hadamard matrices, and what comes close.

A Hadamard matrix has entries of one magnitude, so that the outlier of one channel becomes a small
part of every channel. Sizes are ``2^n m`` with m odd. Built are, in float64:

1. Sylvester's matrices of size 2^n: ``H_2n = [[H, H], [H, -H]]``.
2. Paley's of size 4 m, where 4 m - 1 or 2 m - 1 is a prime (12, 20, 28, 36, 44, 60...).
3. Where there is neither, Hartley's of size m, ``cas(2 pi j k / m) = cos + sin``, whose entries are
   at most ``sqrt(2)`` times their root mean square.
4. Kronecker products of these.

Nothing here is drawn but signs, which are the top bits of what ``PCG64(seed)`` gives: the same on
every machine.
"""

from typing import Final

import numpy as np

SMALLEST: Final = 2
"""Size from which on there is something to spread."""


def factors(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Two orthogonal matrices A (a, a) and B (b, b), ``a b = size``, whose product spreads.

    ``kron(A, B)`` is orthogonal; a row vector x as the matrix X of shape (a, b) is multiplied by it
    as ``A^T X B``, in ``a + b`` multiply-adds an element. Sizes are as near to each other as the
    parts allow.

    Raises:
        ValueError: a size below 1.
    """
    if size < 1:
        raise ValueError(f"there is no matrix of size {size}")
    twos, rest = _parts(size)
    base = _base(rest)
    small, large = np.ones((1, 1)), base
    for _ in range(twos):
        if len(small) <= len(large):
            small = _doubled(small)
        else:
            large = _doubled(large)
    return small / np.sqrt(len(small)), large / np.sqrt(len(large))


def rotation(size: int, seed: int) -> np.ndarray:
    """An orthogonal matrix: random signs of the channels, then ``kron`` of ``factors``.

    Args:
        size: channels.
        seed: of the signs, 0 or more.

    Returns:
        float64 (size, size); its transpose is its inverse but for the rounding of float64.
    """
    return signs(size, seed)[:, np.newaxis] * np.kron(*factors(size))


def signs(size: int, seed: int) -> np.ndarray:
    """1 or -1 a channel, float64 (size,)."""
    top = np.random.PCG64(seed).random_raw(size) >> np.uint64(63)
    return np.where(top == 1, -1.0, 1.0)


def _parts(size: int) -> tuple[int, int]:
    """``(n, r)`` with ``size = 2^n r``, r odd or the size of one of Paley's matrices."""
    twos = (size & -size).bit_length() - 1
    odd = size >> twos
    if twos >= 2 and odd > 1 and _prime_of(4 * odd) is not None:
        return twos - 2, 4 * odd
    return twos, odd


def _base(size: int) -> np.ndarray:
    """A matrix of this size with orthogonal rows of squared length ``size``."""
    prime = _prime_of(size) if size % 4 == 0 else None
    if prime is None:
        angle = 2 * np.pi * np.outer(np.arange(size), np.arange(size)) / size
        return np.cos(angle) + np.sin(angle)
    return _paley(size, prime)


def _prime_of(size: int) -> int | None:
    """The prime that makes a matrix of this size, a multiple of 4; None without one."""
    return next((p for p in (size - 1, size // 2 - 1) if _is_prime(p)), None)


def _paley(size: int, prime: int) -> np.ndarray:
    """Paley's first construction for a prime of 3 modulo 4, his second for one of 1 modulo 4."""
    squares = {(i * i) % prime for i in range(1, prime)}
    residue = np.asarray([0, *(1 if i in squares else -1 for i in range(1, prime))], np.float64)
    cycle = residue[np.subtract.outer(np.arange(prime), np.arange(prime)) % prime]
    core = np.ones((prime + 1, prime + 1))
    core[0, 0] = 0
    core[1:, 1:] = cycle
    if prime + 1 == size:
        core[1:, 0] = -1
        return core + np.eye(size)
    one, other = np.asarray([[1, 1], [1, -1]]), np.asarray([[1, -1], [-1, -1]])
    return np.kron(core, one) + np.kron(np.eye(prime + 1), other)


def _is_prime(number: int) -> bool:
    return number > 1 and all(number % i for i in range(2, int(number**0.5) + 1))


def _doubled(matrix: np.ndarray) -> np.ndarray:
    return np.kron(np.asarray([[1.0, 1.0], [1.0, -1.0]]), matrix)
