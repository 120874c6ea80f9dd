"""A network in which one layer, and only that one, cannot be quantized to 8 bits."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from tests.compiler import small

BAD = "second"


def network() -> onnx.ModelProto:
    """Two convolutions and a fully connected layer; the second has huge weights on a dead channel.

    In float they do nothing, since the channel is always 0; a scale that holds them rounds all
    other weights to 0, along every output channel.
    """
    bias = np.zeros(8, np.float32)
    bias[0] = -1000.0  # Relu makes 0 of it
    weight = small.weights(3, 8, 8, 3, 3)
    weight[:, 0] = 3000.0
    model = small.text_model(
        """net (float["N", 3, 8, 8] x) => (float["N", 4] y) {
            a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            b = Relu (a)
            c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, w2, b2)
            d = Relu (c)
            f = Flatten (d)
            y = Gemm <transB = 1> (f, w3, b3)
        }""",
        {
            "w1": small.weights(1, 8, 3, 3, 3), "b1": bias,
            "w2": weight, "b2": small.weights(4, 8) / 10,
            "w3": small.weights(5, 4, 128), "b3": np.zeros(4, np.float32),
        },
    )  # fmt: skip
    for node, name in zip(
        model.graph.node, ("first", "relu", BAD, "relu2", "flat", "last"), strict=True
    ):
        node.name = name
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    mean = np.asarray(session.run(None, pictures())[0]).mean(axis=0)
    last = next(t for t in model.graph.initializer if t.name == "b3")
    last.CopyFrom(numpy_helper.from_array(-mean, "b3"))  # so that all classes come up
    return model


def outlying() -> onnx.ModelProto:
    """The same network with another fault: a channel of 1000 that the second layer does not read.

    The range of what the first one makes hides all other channels in 8 bits, and not in 16.
    """
    model = network()
    arrays = {t.name: numpy_helper.to_array(t).copy() for t in model.graph.initializer}
    arrays["b1"][0] = 1000.0
    arrays["w2"][:, 0] = 0.0
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(arrays[tensor.name], tensor.name))
    return model


def pictures(count: int = 64, seed: int = 9) -> dict[str, np.ndarray]:
    """Samples without labels."""
    return {"x": small.pictures(count, seed)}


def saved(folder: Path) -> Path:
    """Write the network and say where."""
    return small.saved(network(), folder)
