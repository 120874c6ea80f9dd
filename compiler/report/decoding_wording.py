"""What the report says of a decoder as it is used."""

from typing import TYPE_CHECKING

from qcompile.compiler.report.decoding import CacheBytes, Decoding, tokens_a_second

if TYPE_CHECKING:
    from qcompile.compiler.report.latency import Latency
    from qcompile.compiler.report.model import Measured


def decoding_facts(cache: CacheBytes | None, measured: "Measured") -> list[tuple[str, str]]:
    """Tokens a second in prefill and decode, memory, and bytes of caches."""
    facts = []
    found, steps = measured.decoding, measured.latency
    if found is not None:
        if steps is not None and len(steps.timings) > 1:
            facts.append(("decode", f"{_speeds(steps, 1)}, one behind {found.past} others"))
        facts.append(("prefill", f"{_speeds(found.prefill, found.prompt)}, {found.prompt} at once"))
        facts += _memory(found)
    if cache is not None:
        share = f" ({cache.artefact / cache.floats:.3f}x)" if cache.floats else ""
        facts.append(("cache", f"{cache.floats:,} -> {cache.artefact:,} bytes a token{share}"))
    return facts


def _speeds(latency: "Latency", tokens: int) -> str:
    before, after = (tokens_a_second(timing, tokens) for timing in latency.timings)
    ratio = latency.ratios[0]
    text = f"{before:,.0f} -> {after:,.0f} tokens a second"
    return f"{text}, {ratio.value:.2f}x of float's time ({ratio.low:.2f} to {ratio.high:.2f})"


def _memory(found: Decoding) -> list[tuple[str, str]]:
    before, after = found.float_memory_mb, found.artefact_memory_mb
    if before is None or after is None:
        return []
    return [("to run it", f"{before:.0f} -> {after:.0f} MB at the peak of a process")]
