"""The table and the notebook view say everything, and break on no name."""

import dataclasses
import io
from html.parser import HTMLParser

import pytest

from qcompile.compiler.report.accuracy import Accuracy, Perplexity, Share
from qcompile.compiler.report.latency import Ratio
from qcompile.compiler.report.model import Measured, Report
from qcompile.compiler.report.page import count, decibel, listed, milliseconds, percent, short, size
from qcompile.compiler.report.table_view import console_for, print_report
from tests.compiler.report.reports import BUILD, CHECK, INSPECT


def printed(report: Report) -> str:
    stream = io.StringIO()
    print_report(report, stream)
    return stream.getvalue()


@pytest.mark.parametrize("report", [BUILD, CHECK, INSPECT])
def test_the_table_is_plain_and_80_columns_wide(report: Report) -> None:
    text = printed(report)
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert all(line == line.rstrip() for line in text.splitlines())


def test_a_build_says_what_a_person_asks() -> None:
    text = " ".join(printed(BUILD).split())
    for phrase in (
        'mobile [net] "v1" 模型.onnx -> out.onnx',
        "ort-x86-avx2 (ONNX Runtime on x86-64 with AVX2)",
        "w8a8, effort fast, ranges minmax, io uint8",
        "10.3 MB -> 2.70 MB (26.2 %)",
        "28 of 32 nodes, 99.9+ % of the multiply-adds",
        "top-1 88.0 % -> 84.0 %, 4.00 points lost (2 lost, 1 won)",
        "top-5 92.0 % -> 96.0 %, 4.00 points won (95 %: -0.04 to 12.0; 0 lost, 1 won)",
        "20.00 points lost (95 %: 4.0 to 36.0; 5 lost, 0 won: may be chance (p 0.062))",
        "[miou] 0.9713 -> 0.9698, 0.15 points lost",
        "each 2 -> 1.5, 50.00 points lost (95 %: 45.0 to 55.0)",
        "agreement with float 96.0 % (95 % interval 80.5 to 99.3)",
        "SQNR 24.2 dB at the worst output",
        "on held out: 25 of 125",
        "exact integer sums",
        "0.49x of float (0.48 to 0.51): faster; 50 runs, 1 thread",
        "median 12.3 ms -> 6.10 ms, p90 13.0 ms -> 6.50 ms",
        "20 layers proven free of it, 7 channels of 3 layers shrunk",
        "3.7 s (calibrate 3.2, import 0.5)",
        "312 MB",
        "conv_9",
        "<t0>, <t1> and 1 more",
        "no integer kernel [of Tanh]; part of a",
        "[gate]",
        "bias correction 16.7 23.5 93.8 -> 100.0 yes 0.2",
        "[gptq] rounding 23.5 23.4 - -> - no 4.0",
        "conv_dw_1 Conv 11.9 dB",
        "FoldBatchNorm 1.2 yes 58",
        "note: opset 9 was converted to 21",
        "warning: inputs look wrongly scaled (node input)",
        "NOT FIT TO SHIP: the ranges come from random data",
    ):
        assert phrase in text, phrase


def test_a_language_model_has_perplexity_and_the_next_token() -> None:
    text = Perplexity(
        tokens=640, float_value=22.04, artefact_value=22.2, rise_low=0.5, rise_high=1.0
    )
    share = Share(hits=97, total=100, value=0.97, low=0.91, high=0.99)
    found = Accuracy(data="rows", samples=10, outputs=(), agreement=share, perplexity=text)
    said = " ".join(printed(dataclasses.replace(BUILD, accuracy=found)).split())
    assert "perplexity 22.040 -> 22.200, +0.73 % (95 %: +0.50 to +1.00; 640 tokens)" in said
    assert "agreement of the next token with float 97.0 %" in said
    alone = dataclasses.replace(text, rise_low=None, rise_high=None)
    found = dataclasses.replace(found, perplexity=alone)
    said = " ".join(printed(dataclasses.replace(BUILD, accuracy=found)).split())
    assert "+0.73 % (640 tokens)" in said


def test_what_was_not_measured_is_said() -> None:
    bare = dataclasses.replace(
        BUILD,
        accuracy=None,
        no_accuracy="fewer than 8 samples",
        measured=Measured(no_latency="not this machine"),
    )
    text = " ".join(printed(bare).split())
    assert "accuracy fewer than 8 samples" in text
    assert "latency not this machine" in text


def test_a_check_says_which_gate_failed() -> None:
    text = printed(CHECK)
    assert "pass: min-sqnr 20, measured 24.2" in text
    assert "FAIL: max-drop 1, measured 4" in text


def test_an_inspection_lists_ends_and_ops() -> None:
    text = " ".join(printed(INSPECT).split())
    assert "input: float32[Nx3x224x224]" in text
    assert "2,600,000 elements: float32 10.4 MB, int64 24 B" in text
    assert "Conv 28" in text


def test_a_terminal_gets_colours_and_no_guessed_ones() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    console = console_for(stream)
    console.print("[red]12[/red] :smile: 'x'")
    assert "[red]12[/red] :smile: 'x'" in stream.getvalue()


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("report", [BUILD, CHECK, INSPECT])
def test_a_notebook_gets_sound_html(report: Report) -> None:
    html = report._repr_html_()
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    assert "<script" not in html
    assert 'mobile [net] "v1" 模型.onnx' in "".join(tags.text)


def test_names_cannot_inject_html() -> None:
    html = BUILD._repr_html_()
    assert "&lt;t0&gt;" in html
    assert "<t0>" not in html


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (12_345, "12.3 kB"), (999_499, "999 kB"),
        (999_500, "1.00 MB"), (10_300_000, "10.3 MB"), (2_500_000_000, "2.50 GB"),
    ],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(1.0, "100.0 %"), (0.99999, "99.9+ %"), (0.0, "0.0 %"), (0.0001, "<0.1 %"), (0.973, "97.3 %")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.5, 0.6, "faster"), (1.2, 1.3, "slower"), (0.9, 1.1, "no difference"),
        (0.995, 0.998, "no difference"), (1.002, 1.004, "no difference"), (0.97, 0.98, "faster"),
    ],
)  # fmt: skip
def test_a_difference_must_be_one(low: float, high: float, verdict: str) -> None:
    assert Ratio(name="x", value=(low + high) / 2, low=low, high=high).verdict == verdict


def test_words() -> None:
    assert [decibel(x) for x in (None, float("inf"), 3.14)] == ["-", "identical", "3.1 dB"]
    assert [milliseconds(x) for x in (0.1234, 1.234, 12.34, 123.4)] == [
        "0.123 ms", "1.23 ms", "12.3 ms", "123 ms",
    ]  # fmt: skip
    assert [count(n, "layer") for n in (0, 1, 2)] == ["0 layers", "1 layer", "2 layers"]
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert listed(["a", "b"]) == "a, b"
    assert short("a" * 40) == "a" * 40
    assert short("first/" + "a" * 300 + "/last") == "first/aaaaaaaaaaaa...aaaaaaaaaaaaa/last"
