"""Accuracy, size, and what it took to build: ours beside ONNX Runtime's own tool, MobileNet."""

from rich.table import Table

from tests.benchmarks.workshop import FLOAT, Workshop
from tests.models.running import accuracy, agreement, run, session, sqnr


def tables(shop: Workshop) -> list[Table]:
    """One row a candidate, on the 625 evaluation pictures, with this machine's own kernels."""
    x, labels = shop.evaluation
    size = shop.model.stat().st_size
    reference = run(session(shop.model), x)
    table = Table(
        "candidate",
        *("top-1 %", "lost, points", "agreement %", "SQNR dB", "size", "build s", "peak MB"),
        title="accuracy on 625 pictures (SQNR of the probabilities), one build each",
    )
    for candidate in shop.candidates():
        p = reference if candidate.name == FLOAT else run(session(candidate.path), x)
        lost = accuracy(reference, labels) - accuracy(p, labels)
        cost = candidate.cost
        table.add_row(
            candidate.name,
            f"{100 * accuracy(p, labels):.2f}",
            f"{100 * lost:+.2f}",
            f"{100 * agreement(reference, p):.1f}",
            "inf" if candidate.name == FLOAT else f"{sqnr(reference, p):.1f}",
            f"{candidate.path.stat().st_size / size:.1%}",
            f"{cost.seconds:.1f}" if cost else "",
            f"{cost.peak_mb:.0f}" if cost else "",
        )
    return [table]
