"""What XNNPACK leaves, and in how many pieces it takes the rest."""

from qcompile.targets.tflite.offload import offload
from tests.targets.tflite.sound import sound
from tests.targets.tflite.test_prove import island


def test_a_softmax_at_the_end_is_left() -> None:
    found = offload(sound())
    assert (found.to, found.nodes, found.on) == ("XNNPACK", 6, 5)
    assert (found.partitions, found.islands) == (1, 1)
    (off,) = found.off
    assert (off.op, off.reason) == ("SOFTMAX", "XNNPACK has no integer SOFTMAX")
    assert found.source.startswith("LiteRT ")


def test_a_float_operator_is_off_and_its_borders_are_not() -> None:
    """DEQUANTIZE and QUANTIZE of the island run on XNNPACK; POW and what follows do not."""
    found = offload(island())
    assert [(node.name, node.op) for node in found.off] == [
        ("power_float", "POW"),
        ("sum", "ADD"),
        ("y", "QUANTIZE"),
    ]
    assert (found.nodes, found.on, found.partitions, found.islands) == (5, 2, 2, 2)
