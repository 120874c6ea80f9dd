"""TFLite to ONNX: the inverse of the writer."""
