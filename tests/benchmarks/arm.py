"""MobileNet and MLPerf Tiny on emulated ARM64: results beside x86, instructions beside float."""

from rich.table import Table

from tests.benchmarks.workshop import Workshop
from tests.models import arm


def tables(shop: Workshop) -> list[Table]:
    """What an app gets: ONNX Runtime, and LiteRT with XNNPACK; and LiteRT's reference kernels."""
    table = Table(
        *(
            "model",
            "kernels",
            "CPU",
            "results beside x86",
            "int8, million",
            "float",
            "int8 / float",
        ),
        title="ARM64 instructions (emulated) of one inference, one thread; no times",
    )
    folder = shop.folder / "arm"
    folder.mkdir()
    for row in arm.rows(shop.models, folder):
        cost = ("-", "-", "-")
        if row.integers:
            cost = (f"{row.integers / 1e6:.2f}", f"{row.floats / 1e6:.2f}", f"{row.ratio:.2f}")
        apart = row.off + row.more
        said = row.verdict + (f", {apart} of {row.values}" if apart else "")
        table.add_row(row.model, row.kernels, row.cpu, said, *cost)
    return [table]
