"""The ONNX Runtime back end: lower, run, prove."""
