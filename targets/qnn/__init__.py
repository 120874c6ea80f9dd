"""Qualcomm's NPUs through ONNX Runtime's QNN plugin."""
