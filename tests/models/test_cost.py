"""What the artefact and the build of MobileNet cost, beside ONNX Runtime's own tool."""

from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks import build_time, latency, memory
from tests.benchmarks.workshop import FLOAT, OURS, PEERS, RIVAL, Candidate, Workshop
from tests.figures import Figures
from tests.models.building import TARGET
from tests.models.running import accuracy, run, session

pytestmark = [pytest.mark.models, pytest.mark.slow, pytest.mark.alone]

NAME = "mobilenet_v1_0.75_224.onnx"


@pytest.fixture(scope="module")
def shop(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(models_dir, tmp_path_factory.mktemp("shop"), TARGET)


def test_as_accurate_as_the_best_peer(shop: Workshop, figures: Figures) -> None:
    x, labels = shop.evaluation
    ours = accuracy(run(session(shop.candidate(OURS).path), x), labels)
    for name in PEERS:
        # judged without saturation, which is kinder to the peer than AVX2 is
        peer = accuracy(run(session(shop.candidate(name).path, exact=True), x), labels)
        figures.add(NAME, f"top-1, {name} | ours", peer, ours, "not under")
        assert ours >= peer, name


def test_latency(shop: Workshop, figures: Figures) -> None:
    candidates = [Candidate(FLOAT, shop.model), *map(shop.candidate, (OURS, RIVAL))]
    base, ours, rival = np.median(latency.measure(shop, candidates), axis=0)
    figures.add(NAME, "latency over float", 1.0, float(ours / base), "< 0.8")
    figures.add(NAME, f"latency over {RIVAL}", 1.0, float(ours / rival), "<= 1.05")
    assert ours < 0.8 * base
    assert ours <= 1.05 * rival


def test_build_time(shop: Workshop, figures: Figures) -> None:
    inference, wall = build_time.measure(shop)
    figures.add(NAME, "seconds of inference | build", inference, wall, "<= 2 x + 5 s")
    assert wall <= 2 * inference + 5


def test_memory(shop: Workshop, figures: Figures) -> None:
    few, many = (cost.peak_mb for cost in memory.measure(shop))
    gate = "< 600, within 10 %"
    figures.add(NAME, "peak MB, 32 | 512 samples", f"{few:.0f}", f"{many:.0f}", gate)
    assert max(few, many) < 600
    assert abs(many - few) <= 0.10 * few
