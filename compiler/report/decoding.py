"""Records of the report on a decoder as it is used: caches, prefill, one token after another."""

from dataclasses import dataclass

from qcompile.compiler.report.latency import Latency, Timing


@dataclass(frozen=True, kw_only=True)
class CacheBytes:
    """What one token of one text takes in all caches, in bytes, by the types of the ends."""

    floats: int
    artefact: int


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Run times of a decoder and its float model at batch 1.

    One token behind ``past`` others is what ``Measured.latency`` has.
    """

    past: int
    """Tokens in the caches when one more is decoded."""
    prompt: int
    """Tokens that were read at once."""
    prefill: Latency
    """Of reading them."""
    float_memory_mb: float | None = None
    artefact_memory_mb: float | None = None
    """Peak resident memory of a process that loads the model, reads the prompt and decodes a
    token; None where that was not measured."""


def tokens_a_second(timing: Timing, tokens: int) -> float:
    """How many tokens go through a model that takes so long for ``tokens`` of them."""
    return 1e3 * tokens / timing.median_ms if timing.median_ms > 0 else 0.0
