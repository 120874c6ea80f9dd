"""What is shown of the stages of a build, and what is kept of their seconds."""

import io

import pytest

from qcompile.compiler.cli.bar import Bar, Lines
from qcompile.compiler.progress import Progress, Silent, Timed


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    with progress.stage("calibrate [1/2]", 3) as counter:
        counter.advance()
        counter.advance(2)
    with progress.stage("plan"):
        pass


def test_a_bar_on_a_terminal_is_gone_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    with Bar(stream) as bar:
        work(bar)
        with bar.stage("evaluate", 5) as counter:
            counter.advance(4)
            bar._bars.refresh()
    assert "evaluate" in stream.getvalue()
    assert "4/5" in stream.getvalue()
    last = stream.getvalue().rpartition("\x1b[2K")[2]
    assert last.strip() == "\x1b[?25h", "the line is wiped and the cursor is back"


def test_lines_for_a_log() -> None:
    stream = io.StringIO()
    work(Lines(stream))
    first, second = stream.getvalue().splitlines()
    assert first.startswith("calibrate [1/2] (3): 0.0")
    assert second.startswith("plan: 0.0")


def test_seconds_are_kept_for_the_outermost_stages() -> None:
    timed = Timed(Silent())
    with timed.stage("outer"):
        work(timed)
    work(timed)
    assert [step.name for step in timed.steps] == ["outer", "calibrate [1/2]", "plan"]
    assert all(step.seconds >= 0 for step in timed.steps)


def test_a_stage_that_fails_is_kept_too() -> None:
    timed = Timed()

    def fail() -> None:
        with timed.stage("import"):
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        fail()
    assert [step.name for step in timed.steps] == ["import"]
