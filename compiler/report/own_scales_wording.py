"""What was kept of a quantized model's own scales, in words."""

from collections import Counter
from typing import TYPE_CHECKING

from qcompile.compiler.report.page import Table

if TYPE_CHECKING:
    from qcompile.compiler.report.model import OwnScales


def own_scale_tables(found: "OwnScales | None") -> list[Table]:
    """Counts of what stayed to the last bit, and what was added by which rule."""
    if found is None:
        return []
    rows = [
        ("kept", "scales of activations", str(found.activations)),
        ("kept", "weights", str(found.weights)),
        ("kept", "integers of biases", str(found.biases)),
    ]
    rows += [("added", rule, str(n)) for rule, n in Counter(r for _, r in found.added).items()]
    rows += [("changed", why, str(n)) for why, n in Counter(w for _, w in found.changed).items()]
    rows += [("not needed", "no kernel stores them", str(len(found.idle)))] if found.idle else []
    return [Table("Scales of the model", ("", "what", "values"), tuple(rows), right=(2,))]
