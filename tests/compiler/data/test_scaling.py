"""The scaling check: which layer it watches, when it warns, and when it must not."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.compiler.data.scaling import check_scaling, first_layers
from qcompile.core.signature import signature_of
from qcompile.targets.onnxruntime.executor import OrtExecutor

HEAD = '<ir_version: 10, opset_import: ["" : 21]>'


def network(expected, *, classes=4, body=""):
    """A classifier whose first layer spreads by one where the input spreads by ``expected``."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(8, 3, 3, 3)) / (expected * np.sqrt(27))
    model = onnx.parser.parse_model(
        f"""{HEAD} net (float[N, 3, 8, 8] x) => (float[N, {classes}] y) {{
            c = Conv <pads = [1, 1, 1, 1]> (x, w)
            {body or "r = Relu(c)"}
            m = GlobalMaxPool(r)
            f = Flatten(m)
            y = Gemm(f, g)
        }}"""
    )
    for name, array in (("w", weight), ("g", rng.normal(size=(8, classes)))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("f"), name))
    return ir.from_proto(model)


def pictures(spread, count=16):
    x = np.random.default_rng(1).normal(size=(count, 3, 8, 8)) * spread
    return x.astype(np.float32)


def notes(model, x):
    return check_scaling(open_data(x, signature_of(model)), model, OrtExecutor())


@pytest.mark.parametrize("expected", [0.3, 1, 60])
@pytest.mark.parametrize("body", ["", "r = Clip(c, low, high)", "s = Mul(c, one)\nr = Elu(s)"])
def test_right_and_wrong(expected, body):
    model = network(expected, classes=2, body=body)
    for name, value in (("low", 0.0), ("high", 6.0), ("one", 1.0)):
        if name in body:
            constant = ir.Value(name=name, const_value=ir.tensor(np.float32(value), name=name))
            model.graph.initializers.add(constant)
            for node in model.graph:
                for k, used in enumerate(node.inputs):
                    if used is not None and used.name == name:
                        node.replace_input_with(k, constant)
    assert notes(model, pictures(expected)) == []
    (large,) = notes(model, pictures(expected * 255))
    assert large.level == "warning"
    assert "too large" in large.message
    assert "'x'" in large.message
    (small,) = notes(model, pictures(expected / 255))
    assert "too small" in small.message
    assert "[preprocess]" in small.message


def test_a_network_without_normalization_is_left_in_peace():
    """Its answers are better as it is fed: a rescaled copy tells the samples apart less."""
    model = network(1.0)
    x = pictures(50)
    assert notes(network(1.0, classes=2), x) != []
    assert notes(model, x) == []


def test_nothing_is_said_of_few_or_constant_samples():
    model = network(1.0, classes=2)
    assert notes(model, pictures(255, count=3)) == []
    assert notes(model, np.zeros((8, 3, 8, 8), np.float32)) == []


@pytest.mark.parametrize(
    "text",
    [
        "net (int64[N] x) => (float[N, 4] y) { a = Cast <to = 1> (x)\n b = Unsqueeze(a, x)\n"
        "c = MatMul(b, b)\n y = Relu(c) }",
        "net (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }",
        "net (float[4, 4] x) => (float[4, 4] y) { c = MatMul(x, x)\n y = Relu(c) }",
        "net (float[4, 4] x, float[4, 4] w) => (float[4, 4] y) "
        "{ a = Add(x, w)\n c = MatMul(a, w)\n y = Relu(c) }",
        "net (float[4, 4] x, float[4, 4] w) => (float[4, 4] y) { y = MatMul(x, w) }",
        "net (float[4, 4] x, float[4, 4] w) => (float[4, 4] y) "
        "{ c = MatMul(x, w)\n d = Softmax(c)\n y = Relu(d) }",
    ],
)
def test_no_first_layer(text):
    assert first_layers(ir.from_proto(onnx.parser.parse_model(f"{HEAD} {text}"))) == []


UNIT, SIGNED, RAW = {"std": 255}, {"mean": 127.5, "std": 127.5}, {}
FACE = {"mean": 127, "std": 128}
IMAGENET = {"scale": 1 / 255, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
TIMES_255, BY_255 = {"std": 1 / 255, "arrays": "raw"}, {"std": 255, "arrays": "raw"}


@pytest.mark.models
@pytest.mark.parametrize(
    ("file", "data", "geometry", "right", "wrong"),
    [
        ("mobilenet_v1/mobilenet_v1_0.75_224.onnx", "imagenet", {"crop": 224}, [SIGNED], [RAW]),
        ("mlperf_tiny/vww_96.onnx", "imagenet", {"resize": (96, 96)}, [UNIT], [RAW]),
        ("mlperf_tiny/resnet8_cifar10.onnx", "mlperf_tiny/cifar10_calibration.npz", {},
         [RAW], [UNIT, SIGNED, IMAGENET]),
        ("mlperf_tiny/kws_dscnn.onnx", "mlperf_tiny/kws_calibration.npz", {},
         [RAW], [TIMES_255, BY_255]),
        ("mlperf_tiny/ad_autoencoder.onnx", "mlperf_tiny/ad_calibration.npz", {},
         [RAW], [TIMES_255, BY_255]),
        ("face/version-RFB-320.onnx", "face/pictures", {"resize": (240, 320)}, [FACE], [RAW]),
        ("face/version-RFB-320_simplified.onnx", "face/pictures", {"resize": (240, 320)},
         [FACE], [RAW]),
        ("llm/lm.onnx", "llm/calibration.npz", {}, [RAW], []),
    ],
)  # fmt: skip
def test_the_real_models(models_dir, file, data, geometry, right, wrong):
    model = ir.load(models_dir / file)

    def warned(numbers):
        preprocess = Preprocess(**geometry, **numbers)
        options = DataOptions(folder=models_dir)
        samples = open_data(data, signature_of(model), preprocess, options=options)
        return bool(check_scaling(samples, model, OrtExecutor(), samples=8))

    assert not any(map(warned, right))
    assert all(map(warned, wrong))
