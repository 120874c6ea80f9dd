"""A process that speaks frames, or does not: every wait ends, and so does the process."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.channel import BOOT, Channel
from tests.targets.devices.processes import state, wait_until

HELLO = {"op": "hello", "word": "w0rd", "silence": 60.0}
PACK = """
import sys, time, os, json, struct, hashlib, signal
def frame(header, *blobs):
    sums = [[len(b), hashlib.sha256(b).hexdigest()] for b in blobs]
    text = json.dumps({**header, "blobs": sums}).encode()
    return b"QCF1" + struct.pack("<I", len(text)) + text + b"".join(blobs)
def say(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
marker = b"\\nQCOMPILE-AGENT w0rd\\n"
"""


@contextmanager
def peer(code: str, timeout: float = 20.0) -> Iterator[Channel]:
    """A process that runs some code instead of an agent, and is gone behind the block."""
    channel = Channel([sys.executable, "-c", PACK + code], timeout=timeout, name="peer")
    try:
        yield channel
    finally:
        channel.close()
        assert state(channel.process) == ""


def lost(act: Callable[[], object]) -> str:
    with pytest.raises(QCompileError) as caught:
        act()
    assert caught.value.code is Code.DEVICE_LOST
    return caught.value.message


@pytest.mark.parametrize(
    "noise",
    [
        "",
        "say(b'Welcome')",
        "say(b'QCF1 QCOMPILE-AGENT')",
        "say(b'\\nQCOMPILE-AGENT other\\n')",
        "say(bytes(range(256)) * 40)",
        "say(b'\\n' + marker[:-2])",
        "[(say(b'.'), time.sleep(0.05)) for _ in range(10)]",
    ],
)
def test_what_a_shell_prints_before_is_skipped(noise: str) -> None:
    code = f"{noise}\nsay(marker + frame({{'a': 1}}, b'blob'))\nsys.stdin.buffer.read()"
    with peer(code) as channel:
        channel.start(b"program", HELLO, silence=60.0)
        assert channel.receive() == ({"a": 1}, [b"blob"])


PATIENT = 20.0
"""Seconds that a busy machine may need to start Python; no test waits for them to pass."""


@pytest.mark.parametrize(
    ("code", "says", "timeout"),
    [
        ("", "exit code 0", PATIENT),
        ("sys.exit(3)", "exit code 3", PATIENT),
        ("sys.exit('the reason')", "the reason", PATIENT),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV", PATIENT),
        ("say(b'only noise')", "exit code 0", PATIENT),
        ("while True: say(b'noise' * 100)", "something else is printed", PATIENT),
        ("while True: time.sleep(0.1); say(b'n')", "something else is printed", 3.0),
        ("time.sleep(1000)", "said nothing for 1 s", 1.0),
        ("os.close(1); time.sleep(1000)", "closed its output", PATIENT),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)", "said nothing", 1.0),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "said nothing", 1.0),
    ],
)
def test_what_is_no_agent_is_told_and_ended(code: str, says: str, timeout: float) -> None:
    start = time.monotonic()
    with peer(code, timeout) as channel:
        assert says in lost(lambda: channel.start(b"program", HELLO, silence=60.0))
        assert state(channel.process) == ""
        assert says in lost(channel.receive)  # and says the same from then on
        assert says in lost(lambda: channel.send({}))
    assert time.monotonic() - start < timeout + 9.0


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("say(b'garbage' * 9)", "not the start of a frame"),
        ("say(b'QCF1\\xff\\xff\\xff\\xff')", "too long"),
        ("say(frame({}, b'weights')[:-1] + b'S')", "damaged"),
        ("say(frame({}, b'weights')[:-1])", "ended within a frame"),
        ("say(frame({}, b'weights')[:-1]); time.sleep(1000)", "said nothing"),
    ],
)
def test_frames_that_are_none(code: str, says: str) -> None:
    with peer(f"say(marker)\n{code}", timeout=3.0) as channel:
        channel.start(b"program", HELLO, silence=60.0)
        assert says in lost(channel.receive)
        assert state(channel.process) == ""


def test_a_peer_that_takes_nothing() -> None:
    """A write too is given up."""
    with peer("say(marker); time.sleep(1000)", timeout=3.0) as channel:
        channel.start(b"program", HELLO, silence=60.0)
        assert "took nothing" in lost(lambda: channel.send({}, [bytes(10_000_000)]))


def test_a_slow_peer_is_not_lost_while_something_moves() -> None:
    code = "say(marker)\nfor byte in frame({'a': 1}): say(bytes([byte])); time.sleep(0.12)"
    start = time.monotonic()
    with peer(code, timeout=3.0) as channel:
        channel.start(b"program", HELLO, silence=60.0)
        assert channel.receive()[0] == {"a": 1}
    assert time.monotonic() - start > 2.5  # far more than a frame in one piece takes


def test_signs_of_life_come_and_never_in_the_middle_of_a_frame() -> None:
    """The peer takes apart what comes, until it has seen all requests and some signs of life."""
    code = """
say(marker)
def hear(size):
    data = sys.stdin.buffer.read(size)
    assert len(data) == size
    return data
assert hear(9) == b"7\\nprogram"
seen = {"hello": 0, "x": 0, "ping": 0}
while seen["x"] < 20 or seen["ping"] < 5:
    start = hear(8)
    assert start[:4] == b"QCF1"
    header = json.loads(hear(struct.unpack("<I", start[4:])[0]))
    for size, digest in header["blobs"]:
        assert hashlib.sha256(hear(size)).hexdigest() == digest
    seen[header["op"]] += 1
say(frame(seen))
"""
    with peer(code) as channel:
        channel.start(b"program", HELLO, silence=0.1)
        for _ in range(20):
            channel.send({"op": "x"}, [bytes(1_000_000)])
        seen = channel.receive()[0]
    assert (seen["hello"], seen["x"]) == (1, 20)


def test_what_a_process_started_is_ended_with_it() -> None:
    code = """
import subprocess
child = subprocess.Popen(["sleep", "1000"])
say(marker + frame({"pid": child.pid}))
time.sleep(1000)
"""
    with peer(code, timeout=3.0) as channel:
        channel.start(b"program", HELLO, silence=60.0)
        pid = channel.receive()[0]["pid"]
        lost(channel.receive)
    assert wait_until(lambda: state(pid) in ("", "Z"))


def test_an_endless_standard_error_stops_nothing_and_takes_no_memory() -> None:
    code = """
sys.stderr.write("x" * 5_000_000 + "\\nINFO: a remark\\nthe end\\nINFO: another\\n")
say(marker + frame({}))
"""
    with peer(code) as channel:
        channel.start(b"program", HELLO, silence=60.0)
        assert channel.receive() == ({}, [])
        message = lost(channel.receive)
    assert message.endswith(": the end")


def test_a_command_that_does_not_exist() -> None:
    with pytest.raises(QCompileError) as caught:
        Channel(["/no/such/program"], timeout=1.0, name="peer")
    assert caught.value.code is Code.DEVICE_LOST


def test_closing_twice_is_closing_once() -> None:
    with peer("sys.stdin.buffer.read()") as channel:
        channel.close()


def test_a_python_without_numpy_is_told() -> None:
    with peer("import numpy_is_not_here") as channel:
        assert "numpy_is_not_here" in lost(lambda: channel.start(b"", HELLO, silence=1.0))
    code = "sys.stderr.write(\"ModuleNotFoundError: No module named 'numpy'\\n\")"
    with peer(code) as channel, pytest.raises(QCompileError) as caught:
        channel.start(b"", HELLO, silence=1.0)
    assert caught.value.code is Code.MISSING_RUNTIME


def test_the_boot_text_means_nothing_to_a_shell() -> None:
    assert not set(BOOT) & set("'\"\\$`!\n")
    for shell in ("sh", "bash"):
        script = f"{sys.executable} -c '{BOOT}'"
        done = subprocess.run(
            [shell, "-c", script], input=b"15\nprint(sys.path)", capture_output=True, check=True
        )
        assert b"''" not in done.stdout  # the folder it is started in is no place to import from


def test_a_module_of_the_folder_that_it_starts_in_is_not_imported(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("trap")
    (folder / "numpy.py").write_text("raise SystemExit('trapped')")
    (folder / "signal.py").write_text("raise SystemExit('trapped')")
    done = subprocess.run(
        [sys.executable, "-c", BOOT],
        cwd=folder,
        input=b"12\nimport numpy",
        capture_output=True,
        check=False,
        env={**os.environ},
    )
    assert (done.returncode, done.stderr) == (0, b"")
