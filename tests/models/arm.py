"""What MobileNet and the four MLPerf Tiny networks give and cost on emulated ARM64 CPUs.

Each is built once for ONNX Runtime and TFLite. A CPU runs all of them in one process and counts the
instructions of all of them in another; CPUs run side by side. The reference of ONNX Runtime's
artefacts is this machine with sums that cannot saturate, that of LiteRT's the same kernels here.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import qcompile
from qcompile.compiler.devices import as_given
from qcompile.core.ends import End
from qcompile.core.executor import Session
from qcompile.targets.backends import backend_of
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.device import Device, Kernels, Program
from tests.models import imagenet
from tests.models.running import script, session

CPUS = ("cortex-a53", "cortex-a76", "max")
MOBILENET = "mobilenet_v1_0.75_224"
TINY = ("resnet8_cifar10", "vww_96", "kws_dscnn", "ad_autoencoder")
_CALIBRATED_ON = 32
_SAMPLES = {MOBILENET: 2}
_MOST_SAMPLES = 4
"""That a CPU runs: a run of MobileNet takes a second or two."""
_PATIENCE_S = 600


@dataclass(frozen=True)
class Ran:
    """An artefact and its float model under one runtime, and what they are fed."""

    model: str
    runtime: str
    kernels: Kernels
    artefact: Program
    floats: Program | None
    """None where another row counts the same."""
    ends: Mapping[str, End]
    float_ends: Mapping[str, End]
    step: float
    """Of the output."""
    feeds: tuple[dict[str, np.ndarray], ...]
    """As the float ONNX model takes them."""


@dataclass(frozen=True)
class Row:
    """One artefact on one CPU beside this machine."""

    model: str
    kernels: str
    cpu: str
    values: int
    off: int
    """Values of the output one step apart."""
    more: int
    largest: int
    """Steps."""
    integers: int = 0
    floats: int = 0
    """ARM64 instructions (emulated) of one inference; 0 where they were not counted."""

    @property
    def ratio(self) -> float:
        """Instructions of the artefact as a multiple of the float model's."""
        return self.integers / self.floats

    @property
    def verdict(self) -> str:
        """In the words of the table."""
        if self.more:
            return f"up to {self.largest} LSB"
        return "1 LSB" if self.off else "bit-equal"


def rows(models: Path, folder: Path) -> list[Row]:
    """Every model, runtime and CPU.

    Args:
        models: the folder of MANIFEST.md.
        folder: empty, to build in.
    """
    ran = [one for name in (MOBILENET, *TINY) for one in _built(name, models, folder)]
    expected = [_here(one) for one in ran]
    with ThreadPoolExecutor(len(CPUS)) as pool:
        each = pool.map(lambda cpu: _on(cpu, ran, expected), CPUS)
        return [row for found in each for row in found]


def _on(cpu: str, ran: list[Ran], expected: list[np.ndarray]) -> list[Row]:
    with open_device(f"qemu:{cpu}", timeout=_PATIENCE_S) as device:
        assert device.info.machine == "aarch64"
        got = [_outputs(one, device.session(one.artefact)) for one in ran]
        counted = _count(ran, device)
    return [
        _row(one, cpu, wanted, found, counted)
        for one, wanted, found in zip(ran, expected, got, strict=True)
    ]


def _row(
    one: Ran, cpu: str, expected: np.ndarray, got: np.ndarray, counted: Mapping[str, int]
) -> Row:
    apart = np.abs(np.rint((np.float64(got) - np.float64(expected)) / one.step)).astype(int)
    key = f"{one.model} {one.runtime}"
    return Row(
        one.model,
        f"ORT, {one.kernels}" if one.runtime == "onnxruntime" else f"LiteRT, {one.kernels}",
        cpu,
        apart.size,
        int((apart == 1).sum()),
        int((apart > 1).sum()),
        int(apart.max()),
        counted[f"{key} int8"] if one.floats else 0,
        counted[f"{key} float"] if one.floats else 0,
    )


def _count(ran: list[Ran], device: Device) -> Mapping[str, int]:
    programs, feeds = {}, {}
    for one in ran:
        if one.floats:
            key = f"{one.model} {one.runtime}"
            programs[f"{key} int8"], feeds[f"{key} int8"] = one.artefact, _fed(one, 0)
            given = as_given(one.feeds[0], one.float_ends)
            programs[f"{key} float"], feeds[f"{key} float"] = one.floats, given
    return device.instructions(programs, feeds)


def _here(one: Ran) -> np.ndarray:
    if one.runtime == "onnxruntime":
        return _outputs(one, backend_of(one.runtime).open(one.artefact.data, exact=True))
    with open_device("local", timeout=_PATIENCE_S) as device:
        return _outputs(one, device.session(one.artefact))


def _fed(one: Ran, sample: int) -> Mapping[str, np.ndarray]:
    return as_given(one.feeds[sample], one.ends)


def _outputs(one: Ran, loaded: Session) -> np.ndarray:
    """The first output of every sample, as reals."""
    (name,) = loaded.output_names
    same = End(dtype="float32")
    runs = (loaded.run(_fed(one, k))[0] for k in range(len(one.feeds)))
    return np.stack([one.ends.get(name, same).taken(y) for y in runs])


def _built(name: str, models: Path, folder: Path) -> Iterator[Ran]:
    """One model for both runtimes, ``fast``, and its float TFLite file."""
    model, calibration, evaluation = _data(name, models)
    out = folder / name
    out.mkdir()
    loaded = session(model)
    (given,), (output,) = loaded.get_inputs(), loaded.get_outputs()
    results = qcompile.build_for(
        model,
        ["ort-arm64", "tflite-arm64"],
        data={given.name: calibration},
        out=out,
        effort="fast",
        latency=False,
    )
    floats = out / "float.tflite"
    qcompile.build(model, target="tflite-arm64", scheme="float", out=floats, latency=False)
    feeds = tuple({given.name: x[None]} for x in evaluation[: _SAMPLES.get(name, _MOST_SAMPLES)])
    params = results["ort-arm64"].plan.values[output.name].params
    assert params is not None
    ort, tfl = (out / f"{name}.{t}" for t in ("ort-arm64.onnx", "tflite-arm64.tflite"))

    def ran(runtime: str, path: Path, float_path: Path | None, kernels: Kernels) -> Ran:
        backend = backend_of(runtime)
        return Ran(
            name,
            runtime,
            kernels,
            Program(path.read_bytes(), runtime, kernels=kernels),  # type: ignore[arg-type]
            Program(float_path.read_bytes(), runtime) if float_path else None,  # type: ignore[arg-type]
            backend.facts(path).ends,
            backend.facts(float_path).ends if float_path else {},
            float(params.scale),
            feeds,
        )

    yield ran("onnxruntime", ort, model, "default")
    yield ran("tflite", tfl, floats, "default")
    if name in TINY:  # a run of MobileNet takes half a minute there
        yield ran("tflite", tfl, None, "reference")


def _data(name: str, models: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """A model, calibration samples, and others."""
    if name == MOBILENET:
        calibration = imagenet.load(imagenet.calibration(models)[:16])
        evaluation = imagenet.load(imagenet.evaluation(models)[:: 625 // _SAMPLES[MOBILENET]])
        return models / "mobilenet_v1" / f"{name}.onnx", calibration, evaluation
    tiny = models / "mlperf_tiny"
    if name == "vww_96":
        pictures = script(tiny / "vww_data.py")
        first, second = pictures.calibration(), pictures.evaluation()
    else:
        stem, test = name.split("_")[0], "evaluation"
        if name == "resnet8_cifar10":
            stem, test = "cifar10", "test"
        first, second = (
            np.load(tiny / f"{stem}_{part}.npz")["x"] for part in ("calibration", test)
        )
    every = max(1, len(second) // _MOST_SAMPLES)
    return (
        tiny / f"{name}.onnx",
        first[:_CALIBRATED_ON].astype(np.float32),
        second[::every].astype(np.float32),
    )
