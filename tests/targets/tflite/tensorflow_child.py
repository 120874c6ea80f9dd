"""TFLiteConverter on an ONNX chain or a .keras file, in a process of its own under TensorFlow.

python -m tests.targets.tflite.tensorflow_child MODEL.onnx|MODEL.keras CALIBRATION.npy OUTPUT.tflite

The samples are float32, channels last. TensorFlow is heard by nobody but this process: its warnings
are no errors of ours, and its copies of LiteRT and XNNPACK stay out of the tests'.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import tensorflow as tf

Weights = Mapping[str, np.ndarray]


def main() -> None:
    """Full-integer quantization after training, as TensorFlow's guide tells to do it."""
    model, calibration, output = map(Path, sys.argv[1:])
    x = np.load(calibration)
    made = from_onnx(model, x.shape[1:]) if model.suffix == ".onnx" else from_keras(model, x)
    converter = tf.lite.TFLiteConverter.from_keras_model(made)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([sample[None]] for sample in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    output.write_bytes(converter.convert())


def from_keras(path: Path, x: np.ndarray) -> keras.Model:
    """For batches of one: of a free batch the converter would leave operators on shapes."""
    fed = keras.Input(batch_shape=(1, *x.shape[1:]))
    return keras.Model(fed, keras.models.load_model(path)(fed))


def from_onnx(path: Path, shape: tuple[int, ...]) -> keras.Model:
    """A chain of the layers below with the same weights, channels last."""
    graph = onnx.load(str(path)).graph
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    fed = value = keras.Input(batch_shape=(1, *shape))
    for node in graph.node:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        value = LAYERS[node.op_type](value, [weights.get(n) for n in node.input[1:]], attributes)
    return keras.Model(fed, value)


def _conv(x: Any, given: list[Any], attributes: Mapping[str, Any]) -> Any:
    (kernel,) = given
    size = kernel.shape[2:]
    padding = "same" if any(attributes["pads"]) else "valid"
    if attributes["group"] == 1:
        layer = keras.layers.Conv2D(kernel.shape[0], size, padding=padding, use_bias=False)
        return _filled(layer, x, [kernel.transpose(2, 3, 1, 0)])
    layer = keras.layers.DepthwiseConv2D(size, padding=padding, use_bias=False)
    return _filled(layer, x, [kernel.transpose(2, 3, 0, 1)])


def _norm(x: Any, given: list[Any], attributes: Mapping[str, Any]) -> Any:
    return _filled(keras.layers.BatchNormalization(epsilon=attributes["epsilon"]), x, given)


def _gemm(x: Any, given: list[Any], _attributes: Mapping[str, Any]) -> Any:
    return _filled(keras.layers.Dense(given[0].shape[1]), x, given)


def _filled(layer: Any, x: Any, weights: list[Any]) -> Any:
    y = layer(x)
    layer.set_weights(weights)
    return y


LAYERS: Mapping[str, Callable[[Any, list[Any], Mapping[str, Any]], Any]] = {
    "BatchNormalization": _norm,
    "Conv": _conv,
    "Flatten": lambda x, _w, _a: x,  # behind the global pool, which has flattened
    "Gemm": _gemm,
    "GlobalAveragePool": lambda x, _w, _a: keras.layers.GlobalAveragePooling2D()(x),
    "MaxPool": lambda x, _w, a: keras.layers.MaxPooling2D(a["kernel_shape"])(x),
    "Relu": lambda x, _w, _a: keras.layers.ReLU()(x),
    "Softmax": lambda x, _w, _a: keras.layers.Softmax()(x),
}

if __name__ == "__main__":
    main()
