"""Tokens a second, memory and caches in the report of a decoder, and nothing for others."""

from qcompile.compiler.report.decoding import CacheBytes, Decoding, tokens_a_second
from qcompile.compiler.report.decoding_wording import decoding_facts
from qcompile.compiler.report.latency import Latency, Ratio, Timing
from qcompile.compiler.report.model import Measured


def latency(before: float, after: float) -> Latency:
    rows = (("float", before), ("integer", after))
    timings = tuple(Timing(name=n, median_ms=ms, p90_ms=ms, runs=9) for n, ms in rows)
    ratio = Ratio(name="integer", value=after / before, low=0.4, high=0.6)
    return Latency(timings=timings, ratios=(ratio,), threads=1)


def test_a_decoder_as_it_is_used() -> None:
    found = Decoding(
        past=128,
        prompt=128,
        prefill=latency(20.0, 25.0),
        float_memory_mb=515.2,
        artefact_memory_mb=173.4,
    )
    measured = Measured(latency=latency(1.0, 0.5), decoding=found)
    assert decoding_facts(CacheBytes(floats=3072, artefact=768), measured) == [
        (
            "decode",
            "1,000 -> 2,000 tokens a second, 0.50x of float's time (0.40 to 0.60), "
            "one behind 128 others",
        ),
        (
            "prefill",
            "6,400 -> 5,120 tokens a second, 1.25x of float's time (0.40 to 0.60), 128 at once",
        ),
        ("to run it", "515 -> 173 MB at the peak of a process"),
        ("cache", "3,072 -> 768 bytes a token (0.250x)"),
    ]


def test_other_models_have_none_of_it() -> None:
    assert decoding_facts(None, Measured(latency=latency(1.0, 0.5))) == []


def test_a_clock_too_coarse_gives_no_speed() -> None:
    assert tokens_a_second(Timing(name="a", median_ms=0.0, p90_ms=0.0, runs=1), 5) == 0.0
