"""In CI a skip without an excuse fails the run; elsewhere it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.imports import ROOT

NOTHING = {"CI": "", "QCOMPILE_MODELS": "/nowhere", "QCOMPILE_ALL_EXTRAS": ""}


def run(body: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(
        f"import pytest\ndef test_it(models_dir=None):\n    {body}\n"
    )
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider"]
    command += ["--rootdir", str(folder), "-c", os.devnull, "-ra", str(folder)]
    environment = {**os.environ, **NOTHING, **variables}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("body", "ci", "code"),
    [
        ("pytest.skip('did not feel like it')", "", 0),
        ("pytest.skip('did not feel like it')", "true", 1),
        ("pytest.skip('no real models: set a variable')", "true", 0),
        ("pass", "true", 0),
    ],
)
def test_only_excused_skips_pass_in_ci(body: str, ci: str, code: int, tmp_path: Path) -> None:
    done = run(body, tmp_path, CI=ci)
    assert done.returncode == code, done.stdout
    assert ("CI may not skip" in done.stdout) == bool(code)
    assert "NO REAL MODELS WERE FOUND" in done.stdout


def test_models_may_not_be_skipped_where_they_are(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "MANIFEST.md").write_text("")
    body = "pytest.skip('no real models: not found')"
    done = run(body, tmp_path, CI="1", QCOMPILE_MODELS=str(models))
    assert done.returncode == 1, done.stdout


WITHOUT_LITERT = """
import importlib.util, sys, pytest
real = importlib.util.find_spec
importlib.util.find_spec = lambda n, *r: None if n == "ai_edge_litert" else real(n, *r)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "tests/targets/tflite",
                      "tests/core/test_target_file.py"]))
"""


@pytest.mark.parametrize(("extras", "code"), [("", 0), ("1", 1)])
def test_without_litert_its_tests_are_left_out_aloud(extras: str, code: int) -> None:
    """A base install may, an install with all extras may not; the rest runs."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LITERT],
        cwd=ROOT,
        env={**os.environ, **NOTHING, "CI": "1", "QCOMPILE_ALL_EXTRAS": extras},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert "LITERT IS NOT INSTALLED" in done.stdout
    assert " passed" in done.stdout
    assert ("CI may not skip: tests/targets/tflite" in done.stdout) == bool(code)
