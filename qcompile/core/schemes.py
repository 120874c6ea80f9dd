"""The names of schemes, and what a name says.

``w{1,1.58,2,3,4,8}[a{4,8,16}][-dynamic][+kv{8,4,2}]``: weights of N bits, where the kernels take
them; ``aN``: activations of N bits, scales found at build time, with ``-dynamic`` as it runs;
without ``a`` only the weights are integers (the literature's W8A16, W4A16). ``+kvN`` stores the
caches of keys and values of a decoder in N bits, also behind ``float``. ``fp16``: float, weights
stored in half the bytes. ``float``: the baseline.
"""

from typing import Final, Literal, get_args

SchemeName = Literal[
    "w8a8",
    "w8a16",
    "w4a8",
    "w2a8",
    "w8a8-dynamic",
    "w4a8-dynamic",
    "w2a8-dynamic",
    "w4a4-dynamic",
    "w8",
    "w4",
    "w3",
    "w2",
    "w1.58",
    "w1",
    "fp16",
    "float",
]
"""A scheme without its caches."""

CacheName = Literal["kv8", "kv4", "kv2"]
"""How keys and values are stored."""

CACHES: Final[tuple[CacheName, ...]] = get_args(CacheName)

FLOAT_SCHEMES: Final = frozenset({"fp16", "float"})
"""Schemes under which nothing becomes integer."""

STATIC_SCHEMES: Final = frozenset({"w8a8", "w8a16", "w4a8", "w2a8"})
"""Schemes whose activations get scales at build time, which needs data."""

WEIGHT_ONLY: Final[dict[str, int]] = {"w8": 8, "w4": 4, "w3": 3, "w2": 2, "w1.58": 2, "w1": 2}
"""Schemes that store weights in integers and compute with float activations -> bits of a weight, as
the kernels read it."""

SIGNS: Final = frozenset({"w1.58", "w1"})
"""Those whose weights are signs: of a group three values, ``{-s, 0, s}``, or two."""

LOW_BIT_TOKENS: Final[dict[str, int]] = {"w4a8-dynamic": 4, "w4a4-dynamic": 4}
"""Schemes whose weights are stored so as well where activations have a scale a token: bits of a
weight. No kernel computes them; a graph in floats shows what they would cost."""


WeightForm = Literal["int", "codebook", "pow2"]
"""What the codes of a weight stand for: steps of a scale, places in a table that k-means found, or
powers of two. All but the first are ways to store a weight, not to compute with it."""

WEIGHT_FORMS: Final[tuple[WeightForm, ...]] = get_args(WeightForm)


def split_scheme(name: str) -> tuple[str, CacheName | Literal[""]]:
    """A scheme's name without its caches, and the caches: ``w4+kv8`` is ``w4`` and ``kv8``.

    What is no cache stays with the name, for whoever looks that up to refuse.
    """
    for cache in CACHES:
        if name.endswith(f"+{cache}"):
            return name.removesuffix(f"+{cache}"), cache
    return name, ""


def full_name(scheme: str, cache: str) -> str:
    """The name of a scheme with its caches, as ``split_scheme`` takes it apart."""
    return f"{scheme}+{cache}" if cache else scheme
