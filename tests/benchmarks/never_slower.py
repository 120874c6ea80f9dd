"""--never-slower: time over float, integer coverage and accuracy, with and without it."""

import tempfile
from pathlib import Path
from typing import Any

from rich.table import Table

from qcompile.compiler.api import BuildResult, build
from qcompile.compiler.report.points import points_lost
from tests.benchmarks.workshop import Workshop
from tests.models.every import EVERY


def tables(shop: Workshop) -> list[Table]:
    """A row a model: built as it is, and never slower, each timed at the end of its build."""
    table = Table(
        *("model", "time as built", "never slower", "MACs integer", "nodes", "lost", "replay"),
        title=f"--never-slower for {shop.target}, effort fast: time over float with its interval",
    )
    for name, make in EVERY.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder, out = Path(scratch) / "data", Path(scratch) / "out.onnx"
            folder.mkdir()
            subject = make(shop.models, folder)
            options: dict[str, Any] = {"target": shop.target, "effort": "fast", **subject.options}
            plain = build(subject.model, **options)
            made = build(subject.model, out=out, never_slower=True, **options)
            again = build(
                subject.model,
                plan=f"{out}.plan.json",
                latency=False,
                config=subject.options.get("config"),
            )
            same = again.artefact == out.read_bytes()
        coverage = made.report.coverage
        table.add_row(
            name,
            _ratio(plain),
            _ratio(made),
            f"{100 * coverage.macs_share:.0f} %",
            f"{coverage.integer}/{coverage.total}",
            _lost(made),
            "same bytes" if same else "[red]other bytes",
        )
    return [table]


def _ratio(result: BuildResult) -> str:
    latency = result.report.measured.latency
    if latency is None:
        return "-"
    (ratio,) = latency.ratios
    colour = "[red]" if ratio.verdict == "slower" else ""
    return f"{colour}{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _lost(result: BuildResult) -> str:
    accuracy = result.report.accuracy
    if accuracy is None:
        return "-"
    lost = points_lost(accuracy)
    worst = accuracy.worst_sqnr_db
    return f"{lost.points:.2f} {lost.what}" + ("" if worst is None else f", {worst:.1f} dB")
