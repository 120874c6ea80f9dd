"""Model files in, float onnx_ir models out."""
