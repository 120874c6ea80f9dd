"""A stand-in for the Python API, and a way to run a command line and see how it ended."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from qcompile.compiler.cli.main import run
from tests.compiler.report.diffs import DIFF
from tests.compiler.report.reports import BUILD, CHECK, INSPECT


@dataclass
class FakeApi:
    """Stands for ``qcompile.compiler.api``: keeps what it was called with, or raises."""

    calls: list[tuple[str, object, Mapping[str, Any]]] = field(default_factory=list)
    error: BaseException | None = None
    check_report: object = CHECK
    diff_report: object = DIFF

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        module = ModuleType("qcompile.compiler.api")
        module.build = lambda *a, **k: SimpleNamespace(report=self.call("build", a, k, BUILD))  # type: ignore[attr-defined]
        module.check = lambda *a, **k: self.call("check", a, k, self.check_report)  # type: ignore[attr-defined]
        module.inspect = lambda *a, **k: self.call("inspect", a, k, INSPECT)  # type: ignore[attr-defined]
        module.diff = lambda *a, **k: self.call("diff", a, k, self.diff_report)  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "qcompile.compiler.api", module)

    def call(
        self, verb: str, args: tuple[object, ...], options: dict[str, Any], out: object
    ) -> Any:
        progress = options.pop("progress", None)
        self.calls.append((verb, *args, options))  # type: ignore[arg-type]
        if progress is not None:
            with progress.stage("calibrate", 2) as counter:
                counter.advance(2)
        if self.error is not None:
            raise self.error
        return out


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeApi:
    fake = FakeApi()
    fake.install(monkeypatch)
    return fake


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


class Qcompile:
    """Runs a command line in this process."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd = capfd

    def __call__(self, *arguments: object) -> Ended:
        code = run([str(a) for a in arguments])
        out, err = self._capfd.readouterr()
        return Ended(int(code), out, err)


@pytest.fixture
def qcompile(capfd: pytest.CaptureFixture[str]) -> Qcompile:
    return Qcompile(capfd)
