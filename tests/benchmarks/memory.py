"""Peak memory of a build does not depend on the number of samples."""

from rich.table import Table

from tests.benchmarks.workshop import PEERS, Workshop
from tests.models import imagenet

SAMPLES = (32, 512)


def tables(shop: Workshop) -> list[Table]:
    """The gate: under 600 MB, and within 10 % between the two."""
    pictures = imagenet.pictures(shop.models)
    table = Table("build", "peak MB", "seconds", title="peak memory of a build (VmHWM)")
    peaks = []
    for count in SAMPLES:
        data = shop.pictures(f"samples-{count}", pictures[:count])
        cost = shop.build(data, shop.folder / f"samples-{count}.onnx")
        peaks.append(cost.peak_mb)
        table.add_row(f"{count} samples", f"{cost.peak_mb:.0f}", f"{cost.seconds:.1f}")
    table.add_row("ratio", f"{peaks[1] / peaks[0]:.3f}", "")
    peer = shop.candidate(PEERS[0]).cost
    if peer is not None:
        row = f"{PEERS[0]}, {len(shop.calibration)} samples"
        table.add_row(row, f"{peer.peak_mb:.0f}", f"{peer.seconds:.1f}")
    return [table]
