"""What operators may differ by between machines."""

import pytest

from qcompile.compiler.verify.allowed import Runtime, allowed


@pytest.mark.parametrize(
    ("runtime", "op", "integer", "steps"),
    [
        ("onnxruntime", "Conv", True, 0),
        ("onnxruntime", "Resize", True, 1),
        ("onnxruntime", "LayerNormalization", False, 1),
        ("tflite", "CONV_2D", True, 0),
        ("tflite", "SOFTMAX", True, 1),
        ("tflite", "TANH", False, 1),
    ],
)
def test_steps(runtime: Runtime, op: str, integer: bool, steps: int) -> None:
    assert allowed(runtime, op, steps=True, integer=integer) == steps


def test_floats_have_shares() -> None:
    assert allowed("onnxruntime", "Conv", steps=False, integer=False) == 2e-5
    assert 0 < allowed("onnxruntime", "Tanh", steps=False, integer=False) < 1e-5
