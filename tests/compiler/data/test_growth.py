"""Small sets whose ranges still grow are told, large enough ones and large ones are not."""

import numpy as np

from qcompile.compiler.data.growth import LARGEST, check_growth, growth
from qcompile.compiler.data.open import open_data
from qcompile.targets.onnxruntime.executor import OrtExecutor
from tests.compiler.data.helpers import one_input
from tests.passes.prepare.checking import parse, rand

BODY = "{ a = MatMul(input, w1) b = Relu(a) c = MatMul(b, w2) d = Relu(c) y = MatMul(d, w3) }"
MODEL = parse(
    f"g (float[N, 8] input) => (float[N, 8] y) {BODY}",
    {f"w{i}": rand(8, 8, seed=i) for i in (1, 2, 3)},
)


def said(sizes: list[float]) -> list[str]:
    x = np.random.default_rng(0).normal(size=(1, 8)) * np.array(sizes)[:, None]
    data = open_data(x.astype(np.float32), one_input("N", 8))
    return [note.message for note in check_growth(data, MODEL, OrtExecutor())]


def test_samples_of_one_size() -> None:
    assert said([1.0, 0.9, 1.0, 0.95]) == []


def test_one_sample_beyond_the_rest_in_either_half() -> None:
    (message,) = said([1, 1, 1, 3])
    assert message.startswith("4 calibration samples are few: all of them have ranges 100 % wider")
    assert said([3, 1, 1, 1]) == [message]


def test_sets_that_are_not_asked() -> None:
    assert said([1.0]) == []
    assert said([1.0] * LARGEST + [9.0]) == []
    short = parse(
        "g (float[N, 8] input) => (float[N, 8] y) { y = MatMul(input, w) }", {"w": rand(8, 8)}
    )
    data = open_data(np.ones((4, 8), np.float32), one_input("N", 8))
    assert growth(data, short, OrtExecutor()) is None
