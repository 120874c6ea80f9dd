"""Small finished TFLite files."""

from qcompile.targets.catalog import load_target
from qcompile.targets.tflite.builder import Builder
from qcompile.targets.tflite.lower import lower
from tests.targets.tflite.enclosing import enclosed
from tests.targets.tflite.lowering import parse

MICRO = load_target("tflite-micro")


def hard_swish() -> bytes:
    """One integer operator."""
    return lower(enclosed(parse("g (float[1,64] x) => (float y) { y = HardSwish(x) }")), MICRO)


def with_float() -> bytes:
    """An integer operator, two of floats that hang together, and another integer one."""
    text = """g (float[1,64] x) => (float y) {
        a = HardSwish(x)
        b = Sin(a)
        c = Cos(b)
        d = Sigmoid(c)
        y = HardSwish(d)
    }"""
    return lower(enclosed(parse(text), floats=["b"]), MICRO)


def gelu() -> bytes:
    """What TFLite Micro has no operator for."""
    builder = Builder()
    x = builder.tensor("x", (1, 8), "float32")
    y = builder.tensor("y", (1, 8), "float32")
    builder.operator("GELU", [x], [y])
    return builder.finish([x], [y], names=(["x"], ["y"]), description="refused")
