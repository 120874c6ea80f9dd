"""A module in a process of its own: what it answers, and every way in which it may not."""

import os
import sys
import time
from pathlib import Path

import pytest

from qcompile.compiler.importers.child import run_child
from qcompile.core.errors import Code, QCompileError


def run(
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    timeout: float = 60.0,
    **request: object,
) -> dict[str, object]:
    """Run a module of this text; its name is one that no other test's has."""
    (tmp_path / "served.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    folder = tmp_path / "folder"
    folder.mkdir()
    return run_child("served", request, folder, timeout=timeout, extra="torch")


def test_an_answer_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def main(request):\n    print('noise')\n    return {'twice': 2 * request['n']}"
    assert run(code, tmp_path, monkeypatch, n=21) == {"twice": 42}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def main(r): raise KeyError('lost')", "failed with KeyError: 'lost'"),
        ("import sys\ndef main(r): sys.exit(3)", "sys.exit(3)"),
        ("import os\ndef main(r): os.abort()", "crashed (signal 6)"),
        ("import os\ndef main(r): os._exit(7)", "ended with 7"),
        ("def main(r): print('about to fail'); 1 / 0", "about to fail"),
        ("def main(r): input()", "EOFError"),
    ],
)
def test_failures_are_told(
    code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QCompileError) as caught:
        run(code, tmp_path, monkeypatch)
    assert caught.value.code is Code.IMPORT_FAILED
    assert said in caught.value.message


def test_a_missing_framework_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(QCompileError) as caught:
        run("import no_such_framework", tmp_path, monkeypatch)
    assert caught.value.code is Code.MISSING_EXTRA
    assert "no_such_framework" in caught.value.message
    assert caught.value.hint == "pip install 'qcompile-edge[torch]'"


def test_a_coded_error_comes_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "from qcompile.core.errors import Code, QCompileError\n"
        "def main(r): raise QCompileError(Code.UNKNOWN_OP, 'what is it', node='n', hint='ask')"
    )
    with pytest.raises(QCompileError) as caught:
        run(code, tmp_path, monkeypatch)
    error = caught.value
    assert (error.code, error.message, error.node, error.hint) == (
        Code.UNKNOWN_OP,
        "what is it",
        "n",
        "ask",
    )


@pytest.mark.skipif(sys.platform == "win32", reason="not Windows")
def test_too_long_a_time_ends_the_child_and_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid_file = tmp_path / "pid"
    code = (
        "import subprocess, time\n"
        f"def main(r):\n    child = subprocess.Popen(['sleep', '100'])\n"
        f"    open({str(pid_file)!r}, 'w').write(str(child.pid))\n    time.sleep(100)\n"
    )
    with pytest.raises(QCompileError, match="did not end within 3 s"):
        run(code, tmp_path, monkeypatch, timeout=3.0)
    pid = int(pid_file.read_text())
    deadline = time.monotonic() + 10
    while _lives(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _lives(pid)


def test_what_it_leaves_lies_in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import tempfile\ndef main(r): return {'path': tempfile.mkdtemp()}"
    made = run(code, tmp_path, monkeypatch)
    assert Path(str(made["path"])).is_relative_to(tmp_path / "folder")


def _lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has asked after its end does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        if sys.platform.startswith("linux"):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return stat.rpartition(")")[2].split()[0] != "Z"
