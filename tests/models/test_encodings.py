"""Scales of MobileNet go out to ONNX Runtime's own tool and to AIMET's form, and come back."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.api import build, diff, export
from qcompile.compiler.encodings.formats import FORMATS
from tests.compiler.encodings.tool import scales_of_the_tool
from tests.models import imagenet

pytestmark = [pytest.mark.models, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def folder(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MobileNet built on the first calibration pictures, and a link to the float model."""
    folder = tmp_path_factory.mktemp("encodings")
    (folder / "float.onnx").symlink_to(models_dir / "mobilenet_v1" / "mobilenet_v1_0.75_224.onnx")
    (folder / "qcompile.toml").write_text(imagenet.CONFIG)
    imagenet.link(imagenet.calibration(models_dir)[:32], folder / "data")
    build(
        folder / "float.onnx",
        target="ort-x86-avx2",
        data=folder / "data",
        config=folder / "qcompile.toml",
        effort="fast",
        out=folder / "m.onnx",
        latency=False,
    )
    return folder


@pytest.mark.parametrize("prepared", [True, False])
def test_ort_s_tool_gives_every_scale_back(folder: Path, tmp_path: Path, prepared: bool) -> None:
    overrides = tmp_path / "o.json"
    result = export(
        folder / "m.onnx", overrides, reference=folder / "float.onnx", form="ort", prepared=prepared
    )
    model = result.prepared or folder / "float.onnx"
    theirs = scales_of_the_tool(model, overrides, tmp_path / "tool.onnx", (1, 3, 224, 224))
    assert len(result.exported.encodings) == (60 if prepared else 47)
    for encoding in result.exported.encodings:
        scale, zero = theirs[encoding.name]
        assert np.array_equal(scale, encoding.params.scale), encoding.name
        assert np.array_equal(zero, encoding.params.zero_point), encoding.name


@pytest.mark.parametrize("form", FORMATS)
def test_a_build_with_its_own_encodings_is_the_same(
    form: str, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "e.json"
    reference = folder / "float.onnx"
    prepared = export(folder / "m.onnx", file, reference=reference, form=form, prepared=True)
    assert prepared.prepared is not None
    again = build(
        prepared.prepared,
        target="ort-x86-avx2",
        data=folder / "data",
        config=folder / "qcompile.toml",
        effort="fast",
        ranges="percentile",
        encodings=file,
        out=tmp_path / "again.onnx",
        latency=False,
    )
    assert not [str(note) for note in again.report.notes if "without effect" in note.message]
    report = diff(folder / "m.onnx", tmp_path / "again.onnx")
    assert report.grids == ()
    assert report.nodes == ()
