"""What we export, ONNX Runtime's tool reads, and it writes the same scales and zero points."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.export import export_build
from qcompile.compiler.importers.options import ImportOptions
from tests.compiler.encodings.tool import scales_in, scales_of_the_tool
from tests.compiler.small import DIGITS, digits

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("digits") / "d.onnx"
    digits(out=out)
    return out


@pytest.mark.parametrize("prepared", [True, False])
def test_the_tool_gives_our_scales_back(artefact: Path, tmp_path: Path, prepared: bool) -> None:
    source = DIGITS / "digits.onnx"
    overrides = tmp_path / "overrides.json"
    result = export_build(artefact, source, overrides, "ort", ImportOptions(), prepared=prepared)
    model = result.prepared or source
    theirs = scales_of_the_tool(model, overrides, tmp_path / "tool.onnx", (1, 1, 8, 8))
    assert len(result.exported.encodings) == (15 if prepared else 11)
    for encoding in result.exported.encodings:
        scale, zero = theirs[encoding.name]
        assert np.array_equal(scale, encoding.params.scale), encoding.name
        assert np.array_equal(zero, encoding.params.zero_point), encoding.name


def test_the_tool_makes_the_biases_we_make(artefact: Path, tmp_path: Path) -> None:
    overrides = tmp_path / "overrides.json"
    result = export_build(
        artefact, DIGITS / "digits.onnx", overrides, "ort", ImportOptions(), prepared=True
    )
    assert result.prepared is not None
    shape = (1, 1, 8, 8)
    theirs = scales_of_the_tool(result.prepared, overrides, tmp_path / "tool.onnx", shape)
    ours = scales_in(artefact)
    biases = [name for name in ours if name.endswith("bias")]
    assert len(biases) == 5
    for name in biases:
        assert np.array_equal(theirs[name][0], ours[name][0]), name
