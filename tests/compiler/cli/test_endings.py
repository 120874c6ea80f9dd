"""Every way a command can end: one message, one exit code, never a bare traceback."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qcompile.core.errors import Code, Exit, QCompileError
from tests.compiler.cli.conftest import FakeApi, Qcompile

BUILD = ("build", "m.onnx", "-o", "out.onnx")


@pytest.mark.parametrize("code", list(Code))
def test_each_error_ends_in_its_code(api: FakeApi, qcompile: Qcompile, code: Code) -> None:
    api.error = QCompileError(code, "what [is] wrong", node="conv_3", hint="do this")
    ended = qcompile(*BUILD)
    assert (ended.code, ended.out) == (code.exit, "")
    assert ended.err == (f"error: [{code.slug}] what [is] wrong (node conv_3)\n  hint: do this\n")


@pytest.mark.parametrize("error", [ValueError("boom"), MemoryError(), RecursionError("deep")])
def test_what_nobody_expected_is_our_fault(
    api: FakeApi, qcompile: Qcompile, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QCOMPILE_DEBUG", raising=False)
    api.error = error
    ended = qcompile(*BUILD)
    assert (ended.code, ended.out) == (Exit.INTERNAL, "")
    assert f"internal error: {type(error).__name__}" in ended.err
    assert "report" in ended.err
    assert "Traceback" not in ended.err
    assert len(ended.err.splitlines()) <= 3


def test_a_traceback_for_those_who_ask(
    api: FakeApi, qcompile: Qcompile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("QCOMPILE_DEBUG", raising=False)
    api.error = ValueError("boom")
    assert "Traceback" in qcompile("--traceback", *BUILD).err
    assert "Traceback" not in qcompile(*BUILD).err, "it does not last"
    monkeypatch.setenv("QCOMPILE_DEBUG", "1")
    assert "Traceback" in qcompile(*BUILD).err
    api.error = QCompileError(Code.NO_DATA, "no data")
    ended = qcompile(*BUILD)
    assert (ended.code, "Traceback" in ended.err) == (2, True)


def test_an_interrupt(api: FakeApi, qcompile: Qcompile) -> None:
    api.error = KeyboardInterrupt()
    ended = qcompile(*BUILD)
    assert (ended.code, ended.err.strip()) == (130, "interrupted")


def test_a_full_disk_under_a_temporary_file_is_no_fault_of_ours(
    api: FakeApi, qcompile: Qcompile
) -> None:
    api.error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/qcompile-1/model.data")
    ended = qcompile(*BUILD)
    assert (ended.code, "[output-unwritable]" in ended.err) == (2, True)
    assert "/tmp/qcompile-1/model.data" in ended.err
    api.error = OSError(errno.EBADF, "odd")
    assert qcompile(*BUILD).code == Exit.INTERNAL


def command(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-m", "qcompile.compiler.cli.main", *arguments],
        stderr=subprocess.PIPE, text=True, timeout=60, check=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [["targets"], ["--help"], ["targets", "--json"]])
def test_a_full_disk_under_stdout(arguments: list[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    with open("/dev/full", "w") as full:
        done = command(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "[output-unwritable]" in done.stderr


def test_a_reader_that_leaves() -> None:
    read, write = os.pipe()
    os.close(read)
    done = command("targets", stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_names_that_stdout_cannot_say() -> None:
    done = command(
        "targets", stdout=subprocess.PIPE, env={**os.environ, "PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ort-x86-avx2" in done.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_leave_nothing_behind(tmp_path: Path, number: signal.Signals, code: int) -> None:
    script = (
        "import signal, sys, time, types\n"
        # What a shell runs in the background ignores SIGINT, and so would this child.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from pathlib import Path\n"
        "from qcompile.compiler.output import OutputSet\n"
        "def build(model, *, out, progress):\n"
        "    with OutputSet(out) as outputs:\n"
        "        outputs.write('', b'half')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "api = types.ModuleType('api'); api.build = build\n"
        "sys.modules['qcompile.compiler.api'] = api\n"
        "sys.argv = ['qcompile', 'build', 'm', '-o', 'out.onnx']\n"
        "from qcompile.compiler.cli.main import main\n"
        "main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        assert len(list(tmp_path.iterdir())) == 1
        time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_matrix_routines_take_one_thread_unless_the_user_says_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """numpy reads the variables when it is imported, which no verb has done by then."""
    from qcompile.compiler.cli.main import main

    monkeypatch.setattr(sys, "argv", ["qcompile", "--version"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(os, "environ", {**os.environ, "OPENBLAS_NUM_THREADS": "3"})
    os.environ.pop("MKL_NUM_THREADS", None)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert os.environ["OPENBLAS_NUM_THREADS"] == "3"
    assert os.environ["MKL_NUM_THREADS"] == "1"
