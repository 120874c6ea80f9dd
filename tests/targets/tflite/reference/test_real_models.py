"""Quantized models of others, whole, against LiteRT bit for bit under both rules."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.targets.tflite.reference.evaluate import run
from qcompile.targets.tflite.reference.model import read
from qcompile.targets.tflite.runtime import Kernels, TfliteSession

PEERS = {
    "mlperf_tiny/resnet8_cifar10_int8_peer.tflite": 20,
    "mlperf_tiny/vww_96_int8_peer.tflite": 10,
    "mlperf_tiny/kws_dscnn_int8_peer.tflite": 20,
    "mlperf_tiny/ad_autoencoder_int8_peer.tflite": 20,
    "mobilenet_v2/tf2_mobilenet_v2_1.0_224_ptq.tflite": 2,
}
"""Model -> how many inputs; noise reaches every integer, as pictures do not."""


@pytest.mark.models
@pytest.mark.parametrize("kernels", ["reference", "xnnpack"])
@pytest.mark.parametrize("name", PEERS)
def test_bit_for_bit(models_dir: Path, name: str, kernels: Kernels) -> None:
    data = (models_dir / name).read_bytes()
    session = TfliteSession(data, kernels)
    model = read(data)
    rng = np.random.default_rng(0)
    for _ in range(PEERS[name]):
        feeds = {}
        for key, index in model.inputs.items():
            tensor = model.tensors[index]
            limits = np.iinfo(tensor.dtype)
            feeds[key] = rng.integers(limits.min, limits.max + 1, tensor.shape).astype(tensor.dtype)
        rule = "xnnpack" if kernels == "xnnpack" else "reference"
        ours = list(run(data, feeds, rule=rule).values())
        theirs = session.run(dict(zip(session.input_names, feeds.values(), strict=True)))
        assert all(np.array_equal(a, b) for a, b in zip(ours, theirs, strict=True))
