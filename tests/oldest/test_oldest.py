"""Every target's artefacts under the oldest runtime that it names, beside the newest.

ONNX Runtime's integers are equal to the bit. TensorFlow Lite's reference kernels compute what the
numpy reference does by the rule ``micro``: their FULLY_CONNECTED rounds twice up to LiteRT 1.2.
XNNPACK's have changed by a step here and there since.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest

import qcompile
from qcompile.core.executor import Session
from qcompile.core.target import Target
from qcompile.targets.backends import backend_of
from qcompile.targets.catalog import load_target, target_names
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Device, Kernels, Program
from tests.benchmarks.environments import Unavailable
from tests.compiler.small import cnn, pictures, saved
from tests.models.running import script, sqnr
from tests.oldest.runtimes import python_with

pytestmark = pytest.mark.oldest

TARGETS = [name for name in target_names() if "ethos" not in name]
"""What Vela writes no runtime here runs; what it is made of is a TFLite file as the others."""
SAMPLES = 6
TINY = {
    "ad_autoencoder": "ad_calibration.npz",
    "kws_dscnn": "kws_calibration.npz",
    "resnet8_cifar10": "cifar10_calibration.npz",
    "vww_96": "",
}
LITERT = pytest.mark.litert


def of(*names: str) -> list[object]:
    """Targets as parameters; the TFLite ones need LiteRT."""
    return [pytest.param(n, marks=LITERT) if "tflite" in n else n for n in names]


def opened(target: Target) -> Device:
    try:
        return open_device(f"local:{python_with(target.runtime, target.min_runtime)}")
    except Unavailable as error:
        pytest.skip(f"the oldest runtime cannot be installed: {error}")


def feeds_of(data: bytes, target: Target, x: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    facts = backend_of(target.runtime).facts(data)
    (spec,) = facts.inputs
    end = facts.ends.get(spec.name)
    real = [{spec.name: one[None] if end is None else end.given(one[None])} for one in x]
    dtype = np.dtype(spec.dtype)
    shape = next(iter(real[0].values())).shape
    rng = np.random.default_rng(0)
    if dtype.kind == "f":
        return [*real, {spec.name: rng.standard_normal(shape).astype(dtype)}]
    limits = np.iinfo(dtype)
    return [*real, {spec.name: rng.integers(limits.min, limits.max + 1, shape).astype(dtype)}]


def build(model: Path, target: str, x: np.ndarray, scheme: str) -> tuple[bytes, Target]:
    (given,) = (i.name for i in onnx.load(str(model), load_external_data=False).graph.input)
    data = {given: x} if scheme in {"w8a8", "w8a16", "w4a8"} else None
    built = qcompile.build(
        model, target=target, data=data, scheme=scheme, effort="fast", latency=False
    )
    return built.artefact, load_target(target).under(scheme)


def pairs(
    data: bytes, target: Target, x: Sequence[np.ndarray], kernels: Kernels = "default"
) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Feeds, what the oldest runtime gives, and the newest, output by output."""
    runtime = "tflite" if target.runtime == "tflite" else "onnxruntime"
    program = Program(data, runtime, kernels=kernels)  # type: ignore[arg-type]
    with opened(target) as old, open_device("local") as new:
        assert old.info.runtimes != new.info.runtimes
        sides: list[Session] = [old.session(program), new.session(program)]
        for feeds in feeds_of(data, target, x):
            for a, b in zip(*(side.run(feeds) for side in sides), strict=True):
                yield feeds, a, b


def hold(data: bytes, target: Target, x: Sequence[np.ndarray]) -> None:
    """An integer artefact is what it is today, as far as the runtime promises."""
    if target.runtime != "tflite":
        assert all(np.array_equal(a, b) for _, a, b in pairs(data, target, x))
        return
    from qcompile.targets.tflite.reference.evaluate import run

    for feeds, got, _ in pairs(data, target, x, "reference"):
        (wanted,) = run(data, feeds, rule="micro").values()
        assert np.array_equal(got, wanted)
    both = [(a.astype(np.float64), b.astype(np.float64)) for _, a, b in pairs(data, target, x)]
    old, new = (
        np.concatenate([side.reshape(-1) for side in one]) for one in zip(*both, strict=True)
    )
    assert sqnr(new, old) >= 15


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Convolutions and a fully connected layer."""
    return saved(cnn(), tmp_path_factory.mktemp("small")), pictures(24)


@pytest.mark.parametrize("name", of(*TARGETS))
def test_a_small_model(name: str, small: tuple[Path, np.ndarray]) -> None:
    model, x = small
    hold(*build(model, name, x, "w8a8"), x[:SAMPLES])


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("ort-arm64", "w8a8-dynamic"),
        ("ort-arm64", "float"),
        *(
            pytest.param("tflite-x86", scheme, marks=LITERT)
            for scheme in ("w8a16", "w4a8", "w8a8-dynamic", "w4a8-dynamic", "float")
        ),
    ],
)
def test_other_schemes(name: str, scheme: str, small: tuple[Path, np.ndarray]) -> None:
    """By the runtime that the scheme names; what is computed in floats is close."""
    model, x = small
    data, target = build(model, name, x, scheme)
    for _, old, new in pairs(data, target, x[:SAMPLES]):
        assert sqnr(new.astype(np.float64), old.astype(np.float64)) >= 20


@LITERT
def test_tflite_2_14_refuses_what_it_would_misread(small: tuple[Path, np.ndarray]) -> None:
    """It takes one scale for all channels of a layer that finds its scales as it runs."""
    model, x = small
    data, target = build(model, "tflite-x86", x, "w8a8-dynamic")
    assert target.min_runtime == "LiteRT 1.0"
    old = load_target("tflite-x86")
    if "tflite-runtime" not in str(python_with(old.runtime, old.min_runtime)):
        return  # no wheel of it for this Python
    with opened(old) as device, pytest.raises(qcompile.QCompileError, match="does not load"):
        device.session(Program(data, "tflite"))


@pytest.mark.models
@pytest.mark.parametrize("model", TINY)
@pytest.mark.parametrize("name", of("ort-x86-avx2", "ort-arm64", "tflite-arm64"))
def test_tiny(name: str, model: str, models_dir: Path) -> None:
    folder = models_dir / "mlperf_tiny"
    if model == "vww_96":
        x = np.asarray(script(folder / "vww_data.py").calibration()[:40])
    else:
        x = np.load(folder / TINY[model])["x"].astype(np.float32)
    hold(*build(folder / f"{model}.onnx", name, x, "w8a8"), x[:SAMPLES])
