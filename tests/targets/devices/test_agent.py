"""The agent by itself: what it needs, that it answers, and that it ends when no one is there."""

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from qcompile.targets.devices import agent
from qcompile.targets.devices.agent import Agent
from qcompile.targets.devices.channel import BOOT
from qcompile.targets.devices.qemu_counter import MARK
from qcompile.targets.devices.remote import _PARTS, agent_program
from qcompile.targets.devices.wire import Header, pack, pack_arrays, read_frame
from tests.targets.devices.models import AFFINE, AFFINE_FEED, ENDLESS, ENDLESS_FEED, model
from tests.targets.devices.processes import state, wait_until

FOLDER = Path(agent.__file__).parent
MAY_IMPORT = {"numpy", "onnxruntime", *sys.stdlib_module_names}


@pytest.mark.parametrize("part", _PARTS)
def test_a_part_runs_on_an_old_python_and_needs_little(part: str) -> None:
    source = (FOLDER / f"{part}.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    assert "from __future__ import annotations" in source
    needs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            needs |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            needs.add(str(node.module))
    ours = {f"qcompile.targets.devices.{other}" for other in _PARTS[: _PARTS.index(part)]}
    assert {name for name in needs if name.split(".")[0] not in MAY_IMPORT} <= ours


def test_what_is_sent_is_small() -> None:
    assert len(agent_program()) < 50_000


@contextmanager
def running(silence: float, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """An agent and no one who keeps it alive."""
    process = subprocess.Popen(
        [sys.executable, "-c", BOOT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **variables},
    )
    program = agent_program()
    assert process.stdin is not None
    process.stdin.write(b"%d\n" % len(program) + program)
    ask(process, {"op": "hello", "word": "w", "silence": silence})
    assert process.stdout is not None
    assert process.stdout.readline() == b"\n"
    assert process.stdout.readline() == b"QCOMPILE-AGENT w\n"
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def ask(process: subprocess.Popen[bytes], header: Header, *blobs: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(b"".join(pack(header, blobs)))
    process.stdin.flush()


def answer(process: subprocess.Popen[bytes]) -> Header:
    assert process.stdout is not None
    return read_frame(process.stdout.read1)[0]  # type: ignore[attr-defined]


def load_endless(process: subprocess.Popen[bytes]) -> None:
    """Let it load a model and run it for ever."""
    answer(process)
    load = {"op": "load", "id": 1, "runtime": "onnxruntime", "threads": 1, "kernels": "default"}
    ask(process, {**load, "taps": []}, model(ENDLESS))
    assert answer(process)["inputs"] == ["x"]
    said, blobs = pack_arrays(list(ENDLESS_FEED.items()))
    ask(process, {"op": "run", "id": 1, "arrays": said}, *blobs)
    time.sleep(0.3)
    assert process.poll() is None


def test_it_ends_with_its_stdin_in_the_middle_of_an_inference(tmp_path: Path) -> None:
    with running(60.0, TMPDIR=str(tmp_path)) as process:
        load_endless(process)
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(5.0) == 0
    assert list(tmp_path.iterdir()) == []


def test_it_ends_by_itself_when_no_sign_of_life_comes(tmp_path: Path) -> None:
    with running(4.0, TMPDIR=str(tmp_path)) as process:
        load_endless(process)
        start = time.monotonic()
        process.wait(20.0)
        assert time.monotonic() - start < 6.0
    assert list(tmp_path.iterdir()) == []


def test_signs_of_life_keep_it(tmp_path: Path) -> None:
    with running(1.5) as process:
        answer(process)
        for _ in range(8):
            ask(process, {"op": "ping"})
            time.sleep(0.3)
        assert process.poll() is None
        process.wait(5.0)


@pytest.mark.parametrize("garbage", [b"no frame at all", b"QCF1\xff\xff\xff\xff", b"QCF1\1\0\0\0{"])
def test_what_is_no_frame_ends_it(garbage: bytes) -> None:
    with running(60.0) as process:
        assert process.stdin is not None
        process.stdin.write(garbage)
        process.stdin.flush()
        assert process.wait(5.0) == 3


def test_damage_on_the_way_there_ends_it() -> None:
    with running(60.0) as process:
        frame = b"".join(pack({"op": "load"}, [b"the weights"]))
        assert process.stdin is not None
        process.stdin.write(frame[:-1] + b"S")
        process.stdin.flush()
        assert process.wait(5.0) == 3


def test_no_one_at_its_output_ends_it() -> None:
    with running(60.0) as process:
        answer(process)
        assert process.stdout is not None
        process.stdout.close()
        ask(process, {"op": "hello", "word": "w"})
        assert process.wait(5.0) != 0
        assert wait_until(lambda: state(process.pid) == "")


def test_what_a_runtime_prints_does_not_come_between_frames(tmp_path: Path) -> None:
    """A module of that name, which writes to stdout as C code does."""
    (tmp_path / "onnxruntime.py").write_text("import os; os.write(1, b'hello from C')")
    with running(60.0, PYTHONPATH=str(tmp_path)) as process:
        answer(process)
        load = {"op": "load", "id": 1, "runtime": "onnxruntime", "threads": 1, "kernels": "default"}
        ask(process, {**load, "taps": []}, b"")
        assert answer(process)["error"] == "RUNTIME_REFUSED"  # it has no class of that name


# ---- operations, in this process


class Wires:
    """Collects what an agent sends."""

    def __init__(self) -> None:
        self.sent: list[tuple[Header, dict[str, np.ndarray]]] = []
        self.agent = Agent(lambda header, arrays: self.sent.append((header, dict(arrays))))

    def __call__(
        self, header: Header, feeds: dict[str, np.ndarray] | None = None, *blobs: bytes
    ) -> tuple[Header, dict[str, np.ndarray]]:
        said, packed = pack_arrays(list((feeds or {}).items()))
        self.agent.answer({**header, "arrays": said}, [*packed, *blobs])
        return self.sent[-1]


LOAD = {"op": "load", "runtime": "onnxruntime", "threads": 1, "kernels": "default", "taps": []}


def test_a_run_returns_the_outputs_by_name() -> None:
    ask_agent = Wires()
    assert ask_agent({**LOAD, "id": 7}, None, model(AFFINE))[0] == {
        "inputs": ["x"],
        "outputs": ["y"],
    }
    header, arrays = ask_agent({"op": "run", "id": 7}, AFFINE_FEED)
    assert header == {}
    assert arrays["y"].shape == (2, 3)


def test_a_refused_request_says_the_code_and_the_reason() -> None:
    ask_agent = Wires()
    header, _ = ask_agent({**LOAD, "id": 1}, None, b"no model")
    assert header["error"] == "RUNTIME_REFUSED"
    ask_agent({**LOAD, "id": 1}, None, model(AFFINE))
    header, _ = ask_agent({"op": "run", "id": 1}, {"z": np.zeros(1)})
    assert (header["error"], header["message"]) == ("RUNTIME_FAILED", "input 'x' is not given")
    header, _ = ask_agent({"op": "run", "id": 1}, {"x": np.zeros((2, 5), np.float32)})
    assert header["error"] == "RUNTIME_FAILED"


def test_models_that_are_no_longer_used_are_let_go() -> None:
    ask_agent = Wires()
    for number in range(3):
        drop = [number - 1]
        ask_agent({**LOAD, "id": number, "drop": drop}, None, model(AFFINE))
    assert list(ask_agent.agent._models) == [2]


def test_timing_pins_and_lets_go_and_turns_the_collector_on_again() -> None:
    import gc

    ask_agent = Wires()
    ask_agent({**LOAD, "id": 1}, None, model(AFFINE))
    free = agent.cores()
    header, arrays = ask_agent(
        {
            "op": "time",
            "programs": [["a", 1, [1, 1]]],
            "seconds": 0.05,
            "rounds": [9, 9],
        },
        AFFINE_FEED | {"y": AFFINE_FEED["x"]},
    )
    assert header["error"] == "RUNTIME_FAILED"  # the second feed names another input
    assert gc.isenabled()
    assert agent.cores() == free
    header, arrays = ask_agent(
        {"op": "time", "programs": [["a", 1, [1]]], "seconds": 0.05, "rounds": [9, 9]}, AFFINE_FEED
    )
    assert arrays["a"].dtype == np.float64
    assert agent.cores() == free


def test_a_marked_run_makes_its_marks() -> None:
    ask_agent = Wires()
    ask_agent({**LOAD, "id": 1}, None, model(AFFINE))

    request = {"op": "marked_run", "id": 1, "number": MARK, "runs": 2, "seconds": 9.0}
    assert ask_agent(request, AFFINE_FEED)[0] == {}
