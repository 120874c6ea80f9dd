"""Weights that are only stored small, and TFLite's stored weights: sizes and perplexities on LM."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.decoding import perplexity
from tests.figures import Figures
from tests.models.building import Built
from tests.models.running import FLOAT_PERPLEXITY, session

pytestmark = [pytest.mark.models, pytest.mark.slow]

TOKENS = 256

MOST = {
    # scheme, options -> most perplexity, most of the float file; embedding and head are stored too
    ("w8", "--weights=codebook"): (22.08, 0.26),
    ("w4", "--weights=codebook"): (22.55, 0.135),
    ("w3", "--weights=codebook"): (24.2, 0.105),
    ("w4", "--weights=pow2"): (24.2, 0.14),
    ("w1.58", ""): (42.0, 0.10),
    ("fp16", ""): (22.06, 0.60),  # a head that is tied to its table is stored beside it
}


SAID = ("when it loads the model", "when the model is loaded", "the 2-bit kernel reads")
"""What reports say of what the runtime does with such weights."""


def built(
    builder: Callable[..., Built], model: Path, scheme: str, *options: str, **more: object
) -> Built:
    chosen = ("--scheme", scheme, *(one for one in options if one))
    return builder(model, None, target="ort-x86-vnni", options=chosen, **more)


@pytest.mark.parametrize(("scheme", "form"), MOST)
def test_language_model(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    scheme: str,
    form: str,
) -> None:
    model = models_dir / "llm" / "lm.onnx"
    made = built(builder, model, scheme, form)
    most, largest = MOST[scheme, form]
    found = perplexity(session(made.path), text_rows)
    ratio = made.path.stat().st_size / model.stat().st_size
    figures.add(f"lm.onnx {scheme} {form}", "perplexity", FLOAT_PERPLEXITY, found, f"<= {most}")
    figures.add("", "size of float", 1.0, ratio, f"<= {largest}")
    assert found <= most
    assert ratio <= largest
    said = " ".join(note["message"] for note in made.report["notes"])
    assert any(phrase in said for phrase in SAID)


def test_a_saved_plan_gives_the_same_bytes(
    models_dir: Path, builder: Callable[..., Built], tmp_path: Path
) -> None:
    model = models_dir / "llm" / "lm.onnx"
    first = built(builder, model, "w4", "--weights=codebook")
    plan = first.path.with_name(first.path.name + ".plan.json")
    again = built(builder, model, "w4", f"--plan={plan}")
    assert again.path.read_bytes() == first.path.read_bytes()


def test_convolutions_are_stored_as_codes(
    models_dir: Path, builder: Callable[..., Built], figures: Figures
) -> None:
    model = models_dir / "mlperf_tiny" / "resnet8_cifar10.onnx"
    data = np.load(models_dir / "mlperf_tiny" / "cifar10_test.npz")
    made = built(builder, model, "w4", "--weights=codebook")
    pictures, labels = data["x"].astype(np.float32), data["y"]
    shares = []
    for path in (model, made.path):
        loaded = session(path)
        name = loaded.get_inputs()[0].name
        chosen = [loaded.run(None, {name: x[None]})[0].argmax() for x in pictures]
        shares.append(float((np.asarray(chosen) == labels).mean()))
    figures.add("resnet8 w4 --weights=codebook", "top-1", *shares, ">= float - 0.035")
    assert shares[1] >= shares[0] - 0.035
    assert made.path.stat().st_size < 0.25 * model.stat().st_size
    assert {node.op_type for node in onnx.load(made.path).graph.node} >= {"Conv", "Gather"}


@pytest.mark.litert
@pytest.mark.parametrize(("scheme", "most", "largest"), [("w8", 22.2, 0.27), ("w4", 22.75, 0.145)])
def test_tflite(
    models_dir: Path,
    builder: Callable[..., Built],
    figures: Figures,
    text_rows: np.ndarray,
    tmp_path: Path,
    scheme: str,
    most: float,
    largest: float,
) -> None:
    judged = tmp_path / "judged.npz"
    np.savez(judged, input_ids=text_rows[:, :TOKENS].astype(np.int64))
    model = models_dir / "llm" / "lm.onnx"
    made = builder(
        model,
        None,
        target="tflite-x86",
        evaluation=judged,
        options=("--scheme", scheme, "--shape", f"input_ids=1,{TOKENS}"),
    )
    found = made.report["accuracy"]["perplexity"]
    figures.add(f"lm.onnx {scheme} tflite", "perplexity", found["float_value"],
                found["artefact_value"], f"<= {most}")  # fmt: skip
    assert found["artefact_value"] <= most
    assert made.path.stat().st_size < largest * model.stat().st_size
    assert made.report["coverage"]["macs_share"] > 0.8
