"""What every test may ask for (the real models, the extras), and that CI skips nothing silently."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.figures import FiguresTable
from tests.suites.tally import TallyTable

ROOT = Path(__file__).resolve().parents[1]
MODELS_VARIABLE = "QCOMPILE_MODELS"

ALLOWED_SKIPS = {
    "no real models": "not part of the repository; only a machine that has them runs these",
    "not x86-64": "the AVX2 kernels cannot be emulated by qemu-user on another machine",
    "not Windows": "a rule of one operating system",
    "no full device": "/dev/full exists on Linux only",
    "root may write": "permissions do not bind root, and CI runs as root",
    "no LiteRT": "not in the base install; after `make setup-all` CI runs these with all extras",
    "no TensorFlow": "as LiteRT",
    "no PyTorch": "as LiteRT",
    "no torchao": "as LiteRT",
    "no Vela": "as LiteRT",
    "no QNN": "as LiteRT",
    "no C compiler": "nothing of ours needs one",
    "no TFLite Micro": "as LiteRT",
    "no onnxruntime-genai": "as LiteRT",
    "no SmolLM2": "540 MB, and minutes to build; QCOMPILE_SMOLLM2 asks for it",
    "no emulated ARM64": "made after `make setup-all`, when CI runs these with all extras",
}
"""Start of a skip's reason -> why CI may skip for it. Any other skip fails a run with CI set."""

NO_MODELS = "no real models"
NO_LITERT = "no LiteRT"
EXTRAS: Final = {
    "litert": ("ai_edge_litert", NO_LITERT),
    "tensorflow": ("tensorflow", "no TensorFlow"),
    "torch": ("torch", "no PyTorch"),
    "torchao": ("torchao", "no torchao"),
    "ethos_u": ("ethosu", "no Vela"),
    "qnn": ("onnxruntime_qnn", "no QNN"),
    "tflm": ("tflite_micro", "no TFLite Micro"),
    "genai": ("onnxruntime_genai", "no onnxruntime-genai"),
}
"""Marker of the tests that need an extra -> its module, and the reason to skip them without it."""
NO_ARM = "no emulated ARM64"
EXTRAS_VARIABLE = "QCOMPILE_ALL_EXTRAS"
"""Set where every extra is installed, and an emulated machine ready: then nothing may be skipped
for want of one."""
LITERT_FOLDER = ROOT / "tests" / "targets" / "tflite"
LITERT_FOLDERS: Final = (LITERT_FOLDER, ROOT / "tests" / "targets" / "tflm")
"""Folders that need LiteRT as a whole, down to what they import."""
LONG_FOLDERS: Final = (ROOT / "tests" / "suites", ROOT / "tests" / "models")
"""Folders of files that take minutes."""


def find_models() -> Path | None:
    """The folder of real models: ``$QCOMPILE_MODELS``, else ../shared/models."""
    named = os.environ.get(MODELS_VARIABLE)
    folder = Path(named) if named else ROOT.parent / "shared" / "models"
    return folder.resolve() if (folder / "MANIFEST.md").is_file() else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(FiguresTable())
    config.pluginmanager.register(TallyTable())


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Without LiteRT its folder is left out unread; the last line of the run says so."""
    return True if _needs_litert(collection_path) and not has_litert() else None


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs LiteRT, a folder as a whole, and skip what needs an extra that is missing.

    The longest files come first, so that no process is left alone with one at the end.
    """
    items.sort(key=lambda item: not any(folder in item.path.parents for folder in LONG_FOLDERS))
    missing = {m: f"{why}: make setup-all" for m, (_, why) in EXTRAS.items() if not has(m)}
    if not has_arm():
        missing["arm"] = f"{NO_ARM}: qcompile device prepare"
    for item in items:
        if _needs_litert(item.path):
            item.add_marker("litert")
        wanted = (missing[marker] for marker in missing if item.get_closest_marker(marker))
        if reason := next(wanted, None):
            item.add_marker(pytest.mark.skip(reason=reason))


def _needs_litert(path: Path) -> bool:
    return any(folder in (path, *path.parents) for folder in LITERT_FOLDERS)


def has(marker: str) -> bool:
    """Whether the extra of a marker is installed."""
    return importlib.util.find_spec(EXTRAS[marker][0]) is not None


def has_arm() -> bool:
    """Whether an emulated ARM64 machine is ready."""
    from qcompile.targets.devices.qemu_userland import find_userland

    return find_userland() is not None


def has_litert() -> bool:
    return has("litert")


@pytest.fixture(scope="session")
def models_dir() -> Path:
    """The folder of real models, whose MANIFEST.md says what they are; read-only."""
    folder = find_models()
    if folder is None:
        pytest.skip(f"{NO_MODELS}: set {MODELS_VARIABLE} to their folder")
    return folder


def pytest_report_header() -> list[str]:
    folder = find_models()
    lines = [f"real models: {folder}"]
    if folder is None:
        lines = [f"NO REAL MODELS: {MODELS_VARIABLE} is not set; tests marked `models` are skipped"]
    if not has_litert():
        lines.append("NO LITERT: tests of the TFLite back end are skipped; `make setup-all` has it")
    return lines


def skip_reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The reason of a skipped test, without pytest's prefix."""
    text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return text.removeprefix("Skipped: ")


def forbidden_skips(reporter: pytest.TerminalReporter) -> Iterator[str]:
    """The skips for which CI has no excuse, as ``test: reason``."""
    if os.environ.get(EXTRAS_VARIABLE) and not has_litert():
        yield f"{LITERT_FOLDER.relative_to(ROOT)}: {NO_LITERT}"
    for report in reporter.stats.get("skipped", []):
        reason = skip_reason(report)
        excused = any(reason.startswith(start) for start in ALLOWED_SKIPS)
        extra = any(
            reason.startswith(s) for s in (NO_ARM, *(start for _, start in EXTRAS.values()))
        )
        if extra and os.environ.get(EXTRAS_VARIABLE):
            excused = False
        if not excused or (reason.startswith(NO_MODELS) and find_models() is not None):
            yield f"{report.nodeid}: {reason}"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if in_ci() and reporter is not None and exitstatus == 0 and any(forbidden_skips(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if find_models() is None:
        terminalreporter.write_line(
            f"NO REAL MODELS WERE FOUND: set {MODELS_VARIABLE}; the gates on them did not run",
            red=True,
            bold=True,
        )
    if not has_litert():
        terminalreporter.write_line(
            "LITERT IS NOT INSTALLED: the TFLite back end was not tested; `make setup-all` has it",
            red=True,
            bold=True,
        )
    missing = [marker for marker in EXTRAS if marker != "litert" and not has(marker)]
    if missing:
        told = f"EXTRAS ARE NOT INSTALLED: tests marked {', '.join(missing)} did not run"
        terminalreporter.write_line(f"{told}; `make setup-all` has them", red=True, bold=True)
    if not has_arm():
        told = "NO EMULATED ARM64 MACHINE IS READY: tests marked arm did not run"
        terminalreporter.write_line(f"{told}; `qcompile device prepare`", red=True, bold=True)
    if in_ci():
        for line in forbidden_skips(terminalreporter):
            terminalreporter.write_line(f"CI may not skip: {line}", red=True)
