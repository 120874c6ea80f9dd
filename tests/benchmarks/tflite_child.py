"""One conversion by another tool to TFLite, in a process of its own under that tool's Python.

python -m tests.benchmarks.tflite_child NOTE.json JOB MODEL CALIBRATION.npy OUTPUT.tflite
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.child import START, peak_mb

MEAN, STD = [[[[0.0] * 3]]], [[[[1.0] * 3]]]
"""For onnx2tf, which would normalize the pictures: these are normalized already."""


def keras_float(model: Path, data: Path, output: Path) -> None:
    """``TFLiteConverter`` without quantization."""
    output.write_bytes(_converter(model).convert())


def keras_int8(model: Path, data: Path, output: Path) -> None:
    """Post-training full integer quantization, as TensorFlow's guide tells to do it."""
    import numpy as np
    import tensorflow as tf

    x = np.load(data)
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([picture[None]] for picture in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    output.write_bytes(converter.convert())


def _converter(model: Path) -> Any:
    """For batches of one: of a free batch TFLiteConverter would leave operators on shapes."""
    import keras
    import tensorflow as tf

    picture = keras.Input(batch_shape=(1, 224, 224, 3))
    float_model = keras.Model(picture, keras.models.load_model(model)(picture))
    return tf.lite.TFLiteConverter.from_keras_model(float_model)


def edge_int8(model: Path, data: Path, output: Path) -> None:
    """ai-edge-quantizer's recipe for static int8, from a float .tflite."""
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    ((signature, ends),) = Interpreter(model_path=str(model)).get_signature_list().items()
    (name,) = ends["inputs"]
    made = quantizer.Quantizer(str(model), recipe.static_wi8_ai8())
    ranges = made.calibrate({signature: [{name: picture[None]} for picture in np.load(data)]})
    output.write_bytes(made.quantize(ranges).quantized_model)


def onnx2tf_int8(model: Path, data: Path, output: Path) -> None:
    """``onnx2tf -oiqt``, which always writes the float, 16-bit and mixed files too.

    It fails on batch normalization in its Mul and Add form, so the model is first written by ONNX
    Runtime at level BASIC, which folds it. It looks for its sample pictures in the working folder,
    and downloads them if there are none.
    """
    import numpy as np
    import onnxruntime as ort

    folded = output.with_suffix(".folded.onnx")
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folded)
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    sample = np.zeros((20, 128, 128, 3), np.float32)
    np.save("calibration_image_sample_data_20x128x128x3_float32.npy", sample)
    import onnx2tf

    folder = output.with_suffix("")
    onnx2tf.convert(
        input_onnx_file_path=str(folded),
        output_folder_path=str(folder),
        output_integer_quantized_tflite=True,
        custom_input_op_name_np_data_path=[["input", str(data), MEAN, STD]],
        batch_size=1,
        verbosity="error",
    )
    (made,) = folder.glob("*_full_integer_quant.tflite")
    made.rename(output)


JOBS = {job.__name__: job for job in (keras_float, keras_int8, edge_int8, onnx2tf_int8)}


def main() -> None:
    """Do the job, write the note."""
    note, job, *files = sys.argv[1:]
    JOBS[job](*map(Path, files))
    cost = {"seconds": time.perf_counter() - START, "peak_mb": peak_mb()}
    Path(note).write_text(json.dumps(cost))


if __name__ == "__main__":
    main()
