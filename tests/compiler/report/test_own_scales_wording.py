"""What was kept of a model's own scales, as a table."""

from qcompile.compiler.report.model import OwnScales
from qcompile.compiler.report.own_scales_wording import own_scale_tables


def test_kept_added_changed_and_idle_are_counted() -> None:
    found = OwnScales(
        activations=5,
        weights=2,
        biases=1,
        added=(("b", "minmax"), ("d", "minmax"), ("e", "shared")),
        changed=(("w", "no kernel"),),
        idle=("y",),
    )
    (table,) = own_scale_tables(found)
    assert [row[2] for row in table.rows] == ["5", "2", "1", "2", "1", "1", "1"]
    assert ("added", "minmax", "2") in table.rows
    assert own_scale_tables(None) == []
