"""What is expected to fail, and why: one table. A test fails when an entry of it starts to work."""

from collections.abc import Mapping
from typing import Final

_RANGE = "0 to 10003 in 256 steps: the differences of 1 that the outputs come from are lost"
_DIGITS = "ONNX writes the expected values with four digits"
_CORNERS = "ONNX's reference uses the length before rounding down, ONNX Runtime the whole one"
_TIES = "the inputs lie where the function jumps, and half a step decides"
_BATCHWISE = "ONNX Runtime does not implement layout 1, and names no node when it says so"
_FROM_THE_END = (
    "TFLite's GATHER counts from the front; indices are computed, so it stops as it runs"
)

_CEIL_POOL = "averagepool_2d_ceil_last_window_starts_on_pad"
_LINEAR_CORNERS = "resize_downsample_scales_linear_align_corners"
_CUBIC_CORNERS = "resize_downsample_scales_cubic_align_corners"

KNOWN: Final[Mapping[tuple[str, str, str], str]] = {
    ("onnxruntime", "w8a8", "gru_batchwise"): _BATCHWISE,
    ("onnxruntime", "w8a8", "gru_batchwise+constants"): _BATCHWISE,
    ("onnxruntime", "w8a8", "lstm_batchwise"): _BATCHWISE,
    ("onnxruntime", "w8a8", "lstm_batchwise+constants"): _BATCHWISE,
    ("onnxruntime", "w8a8", _LINEAR_CORNERS): _CORNERS,
    ("onnxruntime", "w8a8", f"{_LINEAR_CORNERS}+constants"): _CORNERS,
    ("onnxruntime", "w8a8", "softmax_large_number"): _RANGE,
    ("onnxruntime", "float", _CEIL_POOL): _DIGITS,
    ("onnxruntime", "float", "gru_batchwise"): _BATCHWISE,
    ("onnxruntime", "float", "gru_batchwise+constants"): _BATCHWISE,
    ("onnxruntime", "float", "lstm_batchwise"): _BATCHWISE,
    ("onnxruntime", "float", "lstm_batchwise+constants"): _BATCHWISE,
    ("onnxruntime", "float", _LINEAR_CORNERS): _CORNERS,
    ("onnxruntime", "float", f"{_LINEAR_CORNERS}+constants"): _CORNERS,
    ("onnxruntime", "float", _CUBIC_CORNERS): _CORNERS,
    ("onnxruntime", "float", f"{_CUBIC_CORNERS}+constants"): _CORNERS,
    ("tflite", "w8a8", "floor_example"): _TIES,
    ("tflite", "w8a8", "gather_negative_indices"): _FROM_THE_END,
    ("tflite", "w8a8", "gru_batchwise"): _BATCHWISE,
    ("tflite", "w8a8", "gru_batchwise+constants"): _BATCHWISE,
    ("tflite", "w8a8", "logsoftmax_large_number"): _RANGE,
    ("tflite", "w8a8", "lstm_batchwise"): _BATCHWISE,
    ("tflite", "w8a8", "lstm_batchwise+constants"): _BATCHWISE,
    ("tflite", "w8a8", f"{_LINEAR_CORNERS}+constants"): _CORNERS,
    ("tflite", "w8a8", "round"): _TIES,
    ("tflite", "w8a8", "softmax_large_number"): _RANGE,
    ("tflite", "float", _CEIL_POOL): _DIGITS,
    ("tflite", "float", "gather_negative_indices"): _FROM_THE_END,
    ("tflite", "float", f"{_LINEAR_CORNERS}+constants"): _CORNERS,
}
"""(runtime, scheme, case) -> why it is not right, or not refused by name."""
