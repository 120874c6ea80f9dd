"""Models that are not simple: several inputs, samples of different sizes, state fed back."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.compiler.api import check
from tests.compiler import small

GATED = """net (float["N", 8] x, float["N", 8] h, float["N", 8] g) =>
    (float["N", 3] y, float["N", 8] h_next) {
    a = MatMul (x, w1)
    b = MatMul (h, w2)
    c = Add (a, b)
    d = Mul (c, g)
    h_next = Tanh (d)
    y = MatMul (h_next, w3)
}"""
PICTURES = """net (float["N", 3, "H", "W"] x) => (float["N", 4] y, float["N", 8, "P", "Q"] d) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, w2, b2)
    d = Relu (c)
    e = GlobalAveragePool (d)
    f = Flatten (e)
    y = Gemm <transB = 1> (f, w3, b3)
}"""
STATE = {"h_next": "h"}


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    constants = {name: small.weights(i, 8, 8) for i, name in enumerate(("w1", "w2"))}
    constants["w3"] = small.weights(5, 8, 3)
    return small.saved(small.text_model(GATED, constants), tmp_path)


def sequence(count: int, seed: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "x": rng.normal(size=(count, 8)).astype(np.float32),
        "g": rng.normal(size=(count, 8)).astype(np.float32),
    }


@pytest.mark.parametrize("effort", ["fast", "balanced"])
def test_state_is_fed_back_in_build_and_check(gated: Path, tmp_path: Path, effort: str) -> None:
    out, data = tmp_path / "out.onnx", sequence(60)
    small.built(gated, data=data, state=STATE, out=out, effort=effort)
    report = check(out, reference=gated, data=sequence(40, 4), state=STATE, latency=False)
    assert report.accuracy is not None
    assert all(o.sqnr_db > 15 for o in report.accuracy.outputs)  # type: ignore[operator]


def test_the_ranges_are_those_of_real_states(gated: Path, tmp_path: Path) -> None:
    """Without its state fed back every h is 0, which says nothing of its range."""
    config = tmp_path / "settings.toml"
    config.write_text('[state]\n"h_next" = "h"\n')
    result = small.built(gated, data=sequence(60), config=config)
    params = result.plan.values["h"].params
    assert params is not None
    assert 1.0 < 255 * params.scale < 2.1  # tanh: -1..1


def test_samples_of_different_sizes(tmp_path: Path) -> None:
    plain = small.cnn()
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer}
    model = small.saved(small.text_model(PICTURES, constants), tmp_path)
    rng = np.random.default_rng(0)
    sizes = [(8, 8), (10, 6), (16, 12), (9, 9)] * 6
    items = [{"x": rng.normal(size=(1, 3, h, w)).astype(np.float32)} for h, w in sizes]
    out = tmp_path / "out.onnx"
    for effort in ("fast", "balanced"):
        result = small.built(model, data=items, out=out, effort=effort)
        assert result.report.accuracy is not None
        assert result.report.accuracy.outputs[0].sqnr_db > 20  # type: ignore[operator]
        assert small.integer_share(result, "Conv") == (2, 0)
    report = check(out, reference=model, data=items, latency=False)
    assert report.accuracy is not None
    assert report.accuracy.outputs[1].sqnr_db > 20  # type: ignore[operator]


def test_a_folder_of_arrays_of_different_sizes_and_a_fixed_shape(tmp_path: Path) -> None:
    plain = small.cnn()
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in plain.graph.initializer}
    model = small.saved(small.text_model(PICTURES, constants), tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    for number, size in enumerate([(8, 8), (10, 6), (16, 12), (9, 9)] * 4):
        np.save(folder / f"{number:02}.npy", small.weights(number, 1, 3, *size))
    result = small.built(model, data=folder, effort="max")
    assert result.report.accuracy is not None
    fixed = small.built(
        model, data={"x": small.pictures(16)}, shapes={"x": (1, 3, 8, 8)}, effort="fast"
    )
    assert fixed.report.artefact.inputs[0].shape == (1, 3, 8, 8)
