"""How long a build takes, against the bare float inference of the same pictures."""

import statistics
import time

from rich.table import Table

from tests.benchmarks.workshop import Workshop
from tests.models import imagenet
from tests.models.running import session

REPEATS = 3


def measure(shop: Workshop) -> tuple[float, float]:
    """Median seconds of the bare inference and of the build, start of the program included."""
    data = shop.pictures("calibration", shop.calibration)
    x = imagenet.load(shop.calibration)
    loaded = session(shop.model)
    bare, build = [], []
    for _ in range(REPEATS):  # in turn, so that a busy minute hits both
        start = time.perf_counter()
        for picture in x:
            loaded.run(None, {"input": picture[None]})
        bare.append(time.perf_counter() - start)
        build.append(shop.build(data, shop.folder / "timed.onnx").seconds)
    return statistics.median(bare), statistics.median(build)


def tables(shop: Workshop) -> list[Table]:
    """The gate: at most 2 x the inference + 5 s, both on all cores."""
    inference, wall = measure(shop)
    title = f"build time, {len(shop.calibration)} pictures, median of {REPEATS}"
    table = Table("what", "seconds", title=title)
    table.add_row("bare float inference", f"{inference:.2f}")
    table.add_row("qcompile build (a fifth held out and judged)", f"{wall:.2f}")
    table.add_row("allowed: 2 x inference + 5 s", f"{2 * inference + 5:.2f}")
    table.add_row("(build - 5 s) / inference", f"{(wall - 5) / inference:.2f}")
    return [table]
