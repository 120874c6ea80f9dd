"""The integer proof: what is integer, what XNNPACK took, and why not."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.core.proof import Planned
from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.builder import Builder, Options
from qcompile.targets.tflite.prove import executed, prove
from tests.targets.tflite.sound import q, sound

TARGET = load_target("tflite-arm64")
PICTURE = (1, 4, 4, 8)


def island() -> bytes:
    """An integer graph with a float POW in the middle, and an int16 end."""
    b = Builder()
    x = b.tensor("x", PICTURE, "int8", q(0.1))
    real = b.tensor("x_float", PICTURE, "float32")
    two = b.tensor("two", (), "float32", None, np.array(2, np.float32))
    power = b.tensor("power_float", PICTURE, "float32")
    back = b.tensor("power", PICTURE, "int8", q(0.2))
    total = b.tensor("sum", PICTURE, "int8", q(0.0004))
    y = b.tensor("y", PICTURE, "int16", q(0.0001))
    b.operator("DEQUANTIZE", [x], [real], Options("DequantizeOptions", {}), version=2)
    b.operator("POW", [real, two], [power], Options("PowOptions", {}))
    b.operator("QUANTIZE", [power], [back], Options("QuantizeOptions", {}))
    b.operator("ADD", [back, back], [total], Options("AddOptions", {}), version=2)
    b.operator("QUANTIZE", [total], [y], Options("QuantizeOptions", {}), version=2)
    return b.finish([x], [y], names=(["x"], ["y"]), description="island")


def test_an_integer_file_is_proven() -> None:
    found = executed(sound())
    assert found.is_integer_only
    assert (found.floats, found.float_ends) == ((), ())
    assert found.kernels["CONV_2D"] == 1 and sum(found.kernels.values()) == 6
    assert found.delegated == 5
    assert [(o.op, o.reason) for o in found.left] == [("SOFTMAX", "XNNPACK has no integer SOFTMAX")]
    assert found.runtime.startswith("LiteRT ")


def test_an_island_is_named() -> None:
    found = executed(island())
    assert not found.is_integer_only
    assert found.floats == ("x_float", "power_float")
    assert [o.op for o in found.operators if not o.integer] == ["DEQUANTIZE", "POW", "QUANTIZE"]
    why = {o.results[0]: o.reason for o in found.left}
    assert why["power_float"] == "XNNPACK does not take POW on float32"
    assert why["sum"].endswith("(here 500)")
    assert why["y"] == "XNNPACK takes no int16 activations"


def test_float_ends_are_ends() -> None:
    b = Builder()
    x = b.tensor("x", PICTURE, "float32")
    xi = b.tensor("xi", PICTURE, "int8", q(0.1))
    y = b.tensor("y", PICTURE, "float32")
    b.operator("QUANTIZE", [x], [xi], Options("QuantizeOptions", {}))
    b.operator("DEQUANTIZE", [xi], [y], Options("DequantizeOptions", {}), version=2)
    found = executed(b.finish([x], [y], names=(["x"], ["y"]), description="ends"))
    assert found.is_integer_only
    assert found.float_ends == ("x", "y")


def test_planned_nodes_are_looked_up() -> None:
    planned = [
        Planned("conv_node", "Conv", ("conv_quantized", "conv")),
        Planned("flatten_node", "Flatten", ("nowhere",)),
        Planned("sigmoid_node", "Sigmoid", ("nowhere",)),
    ]
    proof = prove(sound(), planned, TARGET)
    conv, flatten, sigmoid = proof.nodes
    assert (conv.integer, conv.kernel) == (True, "CONV_2D")
    assert (flatten.integer, flatten.kernel) == (True, "")
    assert (sigmoid.integer, sigmoid.reason) == (False, "its result does not appear in the file")
    assert proof.failures == (sigmoid,)
    assert proof.kernels["ADD"] == 1


def test_a_planned_node_that_runs_in_float_fails() -> None:
    planned = [Planned("pow", "Pow", ("power",)), Planned("add", "Add", ("sum",))]
    power, add = prove(island(), planned, TARGET).nodes
    assert (power.integer, power.reason) == (False, "its result is quantized from floats")
    assert add.integer


@pytest.mark.models
@pytest.mark.parametrize(
    ("name", "left"),
    [
        ("resnet8_cifar10", ["AVERAGE_POOL_2D", "SOFTMAX"]),
        ("vww_96", ["AVERAGE_POOL_2D", "SOFTMAX"]),
        ("kws_dscnn", ["AVERAGE_POOL_2D", "SOFTMAX"]),
        ("ad_autoencoder", []),
    ],
)
def test_real_files(name: str, left: list[str], models_dir: Path) -> None:
    found = executed(models_dir / "mlperf_tiny" / f"{name}_int8_peer.tflite")
    assert found.is_integer_only
    assert [o.op for o in found.left] == left
