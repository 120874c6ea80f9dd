"""Peak memory of a build does not depend on the number of samples."""

from rich.table import Table

from tests.benchmarks.workshop import PEERS, Cost, Workshop
from tests.models import imagenet

SAMPLES = (32, 512)
TIMES = 5
"""Builds of each, of which the median counts: a peak is 350 to 415 MB by how threads meet."""


def measure(shop: Workshop) -> list[Cost]:
    """What a build takes with each number of samples."""
    pictures = imagenet.pictures(shop.models)
    folders = [shop.pictures(f"samples-{count}", pictures[:count]) for count in SAMPLES]
    made = [
        [shop.build(data, shop.folder / f"{data.name}.onnx") for _ in range(TIMES)]
        for data in folders
    ]
    return [sorted(costs, key=lambda cost: cost.peak_mb)[TIMES // 2] for costs in made]


def tables(shop: Workshop) -> list[Table]:
    """The gate: under 600 MB, and within 10 % between the two."""
    table = Table("build", "peak MB", "seconds", title="peak memory of a build (VmHWM)")
    costs = measure(shop)
    for count, cost in zip(SAMPLES, costs, strict=True):
        table.add_row(f"{count} samples", f"{cost.peak_mb:.0f}", f"{cost.seconds:.1f}")
    table.add_row("ratio", f"{costs[1].peak_mb / costs[0].peak_mb:.3f}", "")
    peer = shop.candidate(PEERS[0]).cost
    if peer is not None:
        row = f"{PEERS[0]}, {len(shop.calibration)} samples"
        table.add_row(row, f"{peer.peak_mb:.0f}", f"{peer.seconds:.1f}")
    return [table]
