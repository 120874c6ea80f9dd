"""Makes the files of this example: trains a small CNN on scikit-learn's digits, exports it as ONNX.

    make setup-all && .venv/bin/python examples/digits/make.py [FOLDER]

Writes ``digits.onnx``, ``calibration.npz`` (128 training pictures) and ``test.npz`` (the 360 that
training never saw), both as raw bytes: ``qcompile.toml`` scales them to [0, 1]. The seed is fixed;
another BLAS may still round a weight differently.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from train import BatchNorm, Conv, GlobalAverage, Layer, Linear, MaxPool, Network, Relu

SEED = 7
EPOCHS = 40
BATCH = 32
RATE = 3e-3
CLASSES = 10
WANTED_ACCURACY = 0.985
HERE = Path(__file__).resolve().parent


def load() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training and test pictures, N x 1 x 8 x 8 bytes of 0 to 16, and their labels."""
    digits = load_digits()
    x = digits.images[:, None].astype(np.uint8)
    return tuple(
        train_test_split(x, digits.target, test_size=0.2, random_state=SEED, stratify=digits.target)
    )


def make_layers(rng: np.random.Generator) -> list[Layer]:
    """Conv, depthwise, pointwise, conv, pool, average, linear: every kind a mobile network has."""

    def weights(*shape: int, fan_in: int) -> np.ndarray:
        return (rng.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    return [
        *(Conv(weights(32, 1, 3, 3, fan_in=9)), BatchNorm(32), Relu()),
        *(Conv(weights(32, 1, 3, 3, fan_in=9), depthwise=True), BatchNorm(32), Relu()),
        *(Conv(weights(64, 32, 1, 1, fan_in=32)), BatchNorm(64), Relu()),
        *(Conv(weights(64, 64, 3, 3, fan_in=576)), BatchNorm(64), Relu()),
        MaxPool(),
        GlobalAverage(),
        Linear(weights(64, CLASSES, fan_in=64), np.zeros(CLASSES, np.float32)),
    ]


def train(network: Network, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> None:
    """Adam with a rate that falls to zero, on pictures shifted by up to one pixel."""
    steps = EPOCHS * (len(x) // BATCH)
    for step in range(steps):
        if step % (len(x) // BATCH) == 0:
            order = rng.permutation(len(x))
        start = step % (len(x) // BATCH) * BATCH
        chosen = order[start : start + BATCH]
        network.step(scaled(shifted(x[chosen], rng)), y[chosen], RATE * (1 - step / steps))


def scaled(x: np.ndarray) -> np.ndarray:
    """What the [preprocess] table of qcompile.toml does: bytes of 0 to 16 to [0, 1]."""
    return x.astype(np.float32) / 16


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each picture moved by -1, 0 or 1 pixel along both axes, zeros moved in."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    offsets = rng.integers(0, 3, (len(x), 2))
    return np.stack([p[:, i : i + 8, j : j + 8] for p, (i, j) in zip(padded, offsets, strict=True)])


def export(network: Network) -> onnx.ModelProto:
    """The network as ONNX, batch normalization kept as nodes and a softmax at the end."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value = "input"
    for number, layer in enumerate(network.layers):
        kind = type(layer).__name__
        name = f"{number:02}_{kind}"
        op, attributes, arrays = describe(layer)
        inputs = [value, *(f"{name}.{key}" for key in arrays)]
        weights += [numpy_helper.from_array(a, f"{name}.{key}") for key, a in arrays.items()]
        if op == "Gemm":  # the average keeps its two spatial dimensions in ONNX
            nodes.append(helper.make_node("Flatten", [value], ["flat"], name="flatten"))
            inputs[0] = "flat"
        value = name
        nodes.append(helper.make_node(op, inputs, [value], name=name, **attributes))
    nodes.append(helper.make_node("Softmax", [value], ["probabilities"], name="softmax", axis=1))
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", CLASSES])],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="digits"
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def describe(layer: Layer) -> tuple[str, dict[str, object], dict[str, np.ndarray]]:
    """ONNX op, attributes and weights of a layer."""
    match layer:
        case Conv():
            size = layer.weight.shape[2]
            group = len(layer.weight) if layer.depthwise else 1
            attributes = {"kernel_shape": [size, size], "pads": [size // 2] * 4, "group": group}
            return "Conv", attributes, {"weight": layer.weight}
        case BatchNorm():
            arrays = {
                "gamma": layer.gamma,
                "beta": layer.beta,
                "mean": layer.mean,
                "variance": layer.variance,
            }
            return "BatchNormalization", {"epsilon": layer.epsilon}, arrays
        case Relu():
            return "Relu", {}, {}
        case MaxPool():
            return "MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, {}
        case GlobalAverage():
            return "GlobalAveragePool", {}, {}
        case Linear():
            return "Gemm", {}, {"weight": layer.weight, "bias": layer.bias}
    raise TypeError(f"no ONNX op for {type(layer).__name__}")


def main(folder: Path) -> None:
    """Train, check the accuracy, write the three files."""
    rng = np.random.default_rng(SEED)
    x, test_x, y, test_y = load()
    network = Network(make_layers(rng))
    train(network, x, y, rng)
    accuracy = float(np.mean(network.forward(scaled(test_x)).argmax(1) == test_y))
    print(f"test accuracy {accuracy:.4f} on {len(test_y)} pictures")
    if accuracy < WANTED_ACCURACY:
        sys.exit(f"under {WANTED_ACCURACY}: nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save_model(export(network), folder / "digits.onnx")
    calibration = rng.permutation(len(x))[:128]
    np.savez_compressed(folder / "calibration.npz", input=x[calibration])
    np.savez_compressed(folder / "test.npz", input=test_x, labels=test_y.astype(np.int64))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
