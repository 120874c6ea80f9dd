"""onnxruntime-genai runs what ``--emit genai`` writes, and says the same tokens."""

from pathlib import Path

import pytest

import qcompile
from tests.compiler.genai.helpers import generated, greedy, model_folder

pytestmark = pytest.mark.genai


@pytest.mark.parametrize("scheme", ["float", "w8a8-dynamic"])
def test_a_folder_runs_as_it_is(tmp_path: Path, scheme: str) -> None:
    model = model_folder(tmp_path / "float", max_position_embeddings=64, hidden_size=16)
    folder = tmp_path / "out"
    folder.mkdir()
    qcompile.build(
        model,
        target="ort-x86-avx2",
        out=folder / "small.onnx",
        scheme=scheme,
        emit=["genai"],
        latency=False,
    )
    for prompt in ([3, 4, 5], [0, 9]):
        expected = greedy(folder / "small.onnx", prompt, 20)
        assert generated(folder, prompt, 20) == expected
