"""Real models on runtimes that no processor here has: QNN's emulated HTP, and TFLite Micro."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import qcompile
from qcompile.core.ends import FloatEnds
from qcompile.targets.backends import backend_of
from qcompile.targets.catalog import load_target
from tests.figures import Figures
from tests.models import imagenet
from tests.models.building import Built
from tests.models.running import run, script, session, sqnr
from tests.models.test_mlperf_tiny import save
from tests.models.test_tflite import up_to_the_logits

pytestmark = [pytest.mark.models, pytest.mark.slow]

HTP_SAMPLES = 6
"""The emulation takes a second for a picture, three with 16-bit activations."""
MOST_BELOW = 3.0
"""dB that the HTP may be below the QDQ graph's exact integers, at the logits."""


@pytest.mark.qnn
@pytest.mark.parametrize("scheme", ["w8a8", "w8a16"])
def test_mobilenet_on_the_htp(
    scheme: str, models_dir: Path, figures: Figures, tmp_path: Path
) -> None:
    """Without the processor's help. Judged by the logits: a softmax hides what differs."""
    from qcompile.targets.qnn.session import QnnSession

    name = "mobilenet_v1_0.75_224.onnx"
    model = up_to_the_logits(models_dir / "mobilenet_v1" / name, tmp_path / name)
    (given,) = (i.name for i in session(model).get_inputs())
    calibration = {given: imagenet.load(imagenet.calibration(models_dir))}
    x = imagenet.load(imagenet.evaluation(models_dir)[::100])[:HTP_SAMPLES]
    path = tmp_path / "htp.onnx"
    built = qcompile.build(
        model, target="ort-qnn-htp", data=calibration, scheme=scheme, out=path, effort="fast"
    )
    offload = built.report.offload
    assert offload is not None
    assert (offload.off, offload.on, offload.partitions) == ((), offload.nodes, 1)
    assert built.report.coverage.integer == built.report.coverage.total
    target = load_target("ort-qnn-htp")
    assert target.accelerator is not None
    htp = QnnSession(path, target.accelerator.options)
    backend = backend_of("qnn")
    exact = FloatEnds(backend.open(path, exact=True), backend.facts(path).ends)
    before = run(session(model), x)
    sides = [np.concatenate([m.run({given: one[None]})[0] for one in x]) for m in (exact, htp)]
    htp.close()
    ours, theirs = (sqnr(before, side) for side in sides)
    what = f"ort-qnn-htp, {scheme}, {len(x)} pictures, SQNR of the logits, dB"
    figures.add(name, f"{what}: exact integers, then HTP", ours, theirs, f">= -{MOST_BELOW}")
    assert theirs >= ours - MOST_BELOW


TINY = ("ad_autoencoder", "kws_dscnn", "resnet8_cifar10", "vww_96")
ARENA = dict(zip(TINY, (23_000, 25_000, 57_000, 105_000), strict=True))
"""Most bytes of the arena."""


def calibration_of(name: str, folder: Path) -> np.ndarray:
    if name == "vww_96":
        return np.asarray(script(folder / "vww_data.py").calibration())
    stems = {"ad_autoencoder": "ad", "kws_dscnn": "kws", "resnet8_cifar10": "cifar10"}
    return np.load(folder / f"{stems[name]}_calibration.npz")["x"].astype(np.float32)


@pytest.mark.tflm
@pytest.mark.litert
@pytest.mark.parametrize("name", TINY)
def test_tiny_under_tflite_micro(
    name: str, models_dir: Path, builder: Callable[..., Built], figures: Figures, tmp_path: Path
) -> None:
    """To the bit what our reference computes by the rule ``micro``, on data and on noise."""
    from qcompile.targets.tflite.reference.evaluate import run as reference
    from qcompile.targets.tflm.session import MicroSession

    folder = models_dir / "mlperf_tiny"
    x = calibration_of(name, folder)
    data = save(tmp_path / "calibration.npz", x)
    built = builder(folder / f"{name}.onnx", data, target="tflite-micro", effort="fast")
    artefact = built.path.read_bytes()
    offload = built.report["offload"]
    assert offload["off"] == []
    arena = int(offload["estimates"]["arena_bytes"])
    figures.add(f"{name}.onnx", "tflite-micro, bytes of the arena", 0, arena, f"<= {ARENA[name]}")
    assert arena <= ARENA[name]

    micro = MicroSession(artefact, arena=arena)
    facts = backend_of("tflite").facts(artefact)
    (spec,) = facts.inputs
    ends = facts.ends[spec.name]
    rng = np.random.default_rng(0)
    noise = [rng.integers(-128, 128, spec.shape).astype(np.int8) for _ in range(4)]
    for given in (*(ends.given(one[None]) for one in x[:4]), *noise):
        (wanted,) = reference(artefact, {spec.name: given}, rule="micro").values()
        assert np.array_equal(micro.run({spec.name: given})[0], wanted)
    micro.close()
