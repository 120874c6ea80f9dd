"""A device with an agent, on this machine: the same bits as in this process, and every refusal."""

import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.devices.catalog import open_device
from qcompile.targets.devices.channel import BOOT
from qcompile.targets.devices.device import Program, TimingPlan
from qcompile.targets.devices.qemu_counter import MARK
from qcompile.targets.devices.remote import AgentDevice, Transport, _silence
from qcompile.targets.onnxruntime.executor import open_artefact
from tests.targets.devices.models import (
    AFFINE,
    AFFINE_FEED,
    ENDLESS,
    ENDLESS_FEED,
    SAME,
    model,
)
from tests.targets.devices.processes import agents, state, wait_until
from tests.targets.onnxruntime.qdq_models import Builder, optimize

PLAN = TimingPlan(seconds=0.1)


@pytest.fixture(scope="module")
def device() -> Iterator[AgentDevice]:
    with open_device("local", timeout=60.0) as one:
        assert isinstance(one, AgentDevice)
        yield one


def onnx_program(text: str) -> Program:
    return Program(model(text), "onnxruntime")


def refused(code: Code, program: Program, device: AgentDevice) -> str:
    with pytest.raises(QCompileError) as caught:
        device.session(program)
    assert caught.value.code is code
    return str(caught.value)


def test_it_says_what_it_is(device: AgentDevice) -> None:
    info = device.info
    assert info.spec == "local"
    assert info.machine == os.uname().machine
    assert info.cores >= 1
    assert info.runtimes["onnxruntime"] == __import__("onnxruntime").__version__
    assert not info.emulated


@pytest.mark.parametrize("kernels", ["default", "builtin"])
def test_the_same_bits_as_in_this_process(device: AgentDevice, kernels: str) -> None:
    program = Program(model(AFFINE), "onnxruntime", kernels=kernels)  # type: ignore[arg-type]
    session = device.session(program)
    assert (session.input_names, session.output_names) == (("x",), ("y",))
    here = open_artefact(model(AFFINE))
    for seed in range(5):
        feed = {"x": np.random.default_rng(seed).standard_normal((seed, 4)).astype(np.float32)}
        (out,), (expected,) = session.run(feed), here.run(feed)
        assert out.tobytes() == expected.tobytes()
        assert (out.dtype, out.shape) == (expected.dtype, expected.shape)


def quantized_convolution() -> bytes:
    """A QDQ file whose convolution ONNX Runtime runs in integers."""
    built = Builder()
    x = built.activation(["N", 8, 9, 9])
    weights = [built.weight((6, 8, 3, 3), 0), built.bias(6)]
    (y,) = built.node("Conv", [x, *weights])
    built.output(built.quantized(y, 4.0, 100))
    model = built.model()
    assert optimize(model).runs_integer(["QLinearConv"])
    return model.SerializeToString()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_integer_artefact_gives_the_same_bits(device: AgentDevice, threads: int) -> None:
    artefact = quantized_convolution()
    session = device.session(Program(artefact, "onnxruntime", threads=threads))
    here = open_artefact(artefact)
    for seed in range(5):
        x = np.random.default_rng(seed).normal(0, 9, (3, 8, 9, 9)).astype(np.float32)
        (out,), (expected,) = session.run({"x0": x}), here.run({"x0": x})
        assert out.tobytes() == expected.tobytes()
        assert len(np.unique(out)) > 20


@pytest.mark.parametrize(
    "dtype",
    [
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float", "double"),
    ],
)
def test_every_type_goes_there_and_back(device: AgentDevice, dtype: str) -> None:
    proto = onnx.parser.parse_model(SAME.format(dtype=dtype))
    element = proto.graph.input[0].type.tensor_type.elem_type
    kind = onnx.helper.tensor_dtype_to_np_dtype(element)
    session = device.session(Program(proto.SerializeToString(), "onnxruntime"))
    for shape in [(2, 3), (0, 3), (1, 1)]:
        value = np.arange(np.prod(shape)).reshape(shape).astype(kind)
        (out,) = session.run({"x": value.T.copy().T})
        assert (out.dtype, out.shape) == (value.dtype, shape)
        assert np.array_equal(out, value)


def test_models_with_scalars_and_without_inputs(device: AgentDevice) -> None:
    scalar = """<ir_version: 8, opset_import: ["" : 17]> g (float x) => (float y) { y = Neg(x) }"""
    (out,) = device.session(onnx_program(scalar)).run({"x": np.float32(3)})
    assert (out.shape, float(out)) == ((), -3.0)
    fixed = """<ir_version: 8, opset_import: ["" : 17]> g () => (float[1] y)
        <float[1] c = {2}> { y = Neg(c) }"""
    (out,) = device.session(onnx_program(fixed)).run({})
    assert out.tolist() == [-2.0]


def test_text_is_refused_and_the_device_lives_on(device: AgentDevice) -> None:
    session = device.session(onnx_program(AFFINE))
    with pytest.raises(QCompileError) as caught:
        session.run({"x": np.array(["text"])})
    assert caught.value.code is Code.DATA_TYPE
    with pytest.raises(QCompileError) as caught:
        session.run({"x": np.zeros((1, 9), np.float32)})
    assert caught.value.code is Code.RUNTIME_FAILED
    assert len(session.run(AFFINE_FEED)) == 1


def test_what_is_refused(device: AgentDevice) -> None:
    text = refused(Code.RUNTIME_REFUSED, Program(b"no model", "onnxruntime"), device)
    assert "local: ONNX Runtime" in text
    data = model(AFFINE)
    refused(Code.BAD_OPTION, Program(data, "onnxruntime", kernels="reference"), device)
    refused(Code.BAD_OPTION, Program(data, "onnxruntime", taps=("y",)), device)
    refused(Code.BAD_OPTION, Program(data, "tflite", taps=("y",)), device)


def test_an_equal_program_is_loaded_once_and_let_go(device: AgentDevice) -> None:
    first = device.session(onnx_program(AFFINE))
    assert device.session(onnx_program(AFFINE)) is first
    assert device.session(Program(model(AFFINE), "onnxruntime", threads=2)) is not first
    number = first.number
    del first
    gc.collect()
    again = device.session(onnx_program(AFFINE))
    assert again.number > number
    assert device._dropped == []  # said with the last request


def test_threads_take_turns(device: AgentDevice) -> None:
    session = device.session(onnx_program(AFFINE))
    expected = session.run(AFFINE_FEED)[0].tobytes()
    results: list[bytes] = []
    workers = [
        threading.Thread(
            target=lambda: results.extend(session.run(AFFINE_FEED)[0].tobytes() for _ in range(20))
        )
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [expected] * 80


def test_timing_tells_rounds_and_warm_up(device: AgentDevice) -> None:
    programs = {
        "float": onnx_program(AFFINE),
        "more": Program(model(AFFINE), "onnxruntime", threads=2, kernels="builtin"),
    }
    feeds = {"float": [AFFINE_FEED], "more": [AFFINE_FEED] * 3}
    timed = device.time(programs, feeds, PLAN)
    assert set(timed.seconds) == set(timed.warm_up) == set(programs)
    lengths = {len(row) for row in timed.seconds.values()}
    assert len(lengths) == 1
    assert 7 <= lengths.pop() <= 1000
    assert all(row.dtype == np.float64 and (row > 0).all() for row in timed.seconds.values())
    assert all(len(row) >= 3 for row in timed.warm_up.values())


def test_a_long_timing_is_no_silence() -> None:
    """It takes longer than the time-out, but its runs are signs of progress."""
    start = time.monotonic()
    with open_device("local", timeout=3.0) as device:
        program = onnx_program(AFFINE)
        device.time({"a": program}, {"a": [AFFINE_FEED]}, TimingPlan(4.5, (7, 10**7)))
    assert time.monotonic() - start > 3.0


def test_instructions_are_not_counted_here(device: AgentDevice) -> None:
    with pytest.raises(QCompileError) as caught:
        device.instructions({}, {})
    assert caught.value.code is Code.DEVICE_UNFIT
    device.marked_run(onnx_program(AFFINE), AFFINE_FEED, number=MARK)


def test_an_emulated_device_gives_no_times() -> None:
    transport = Transport("emu", (sys.executable, "-c", BOOT), emulated=True, cpu="Cortex-A53")
    with AgentDevice(transport, timeout=60.0) as device:
        assert (device.info.emulated, device.info.cpu) == (True, "Cortex-A53")
        assert (device.info.governor, device.info.temperature) == ("", None)
        with pytest.raises(QCompileError) as caught:
            device.time({}, {})
    assert caught.value.code is Code.DEVICE_UNFIT


# ---- ends


def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    before = agents(os.getpid())
    with open_device("local") as device:
        (pid,) = agents(os.getpid()) - before
        device.session(onnx_program(AFFINE)).run(AFFINE_FEED)
    assert state(pid) == ""
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_end_is_given_up() -> None:
    with open_device("local", timeout=4.0) as device:
        assert isinstance(device, AgentDevice)
        session = device.session(onnx_program(ENDLESS))
        start = time.monotonic()
        for _ in range(2):
            with pytest.raises(QCompileError) as caught:
                session.run(ENDLESS_FEED)
            assert caught.value.code is Code.DEVICE_LOST
        assert time.monotonic() - start < 7.0
        assert state(device.process) == ""


def test_a_runtime_that_crashes_is_told_with_its_signal() -> None:
    with open_device("local") as device:
        assert isinstance(device, AgentDevice)
        session = device.session(onnx_program(ENDLESS))
        timer = threading.Timer(0.3, os.kill, (device.process, signal.SIGSEGV))
        timer.start()
        with pytest.raises(QCompileError, match="SIGSEGV") as caught:
            session.run(ENDLESS_FEED)
        assert caught.value.code is Code.DEVICE_LOST


def test_a_device_that_was_closed() -> None:
    with open_device("local") as device:
        session = device.session(onnx_program(AFFINE))
    for act in (lambda: session.run(AFFINE_FEED), lambda: device.session(onnx_program(ENDLESS))):
        with pytest.raises(QCompileError, match="closed") as caught:
            act()
        assert caught.value.code is Code.DEVICE_LOST
    device.close()


@pytest.mark.parametrize(
    ("timeout", "emulated", "silence"),
    [(4.0, False, 5.0), (600.0, False, 150.0), (600.0, True, 750.0)],
)
def test_an_agent_elsewhere_does_not_wait_for_long(
    timeout: float, emulated: bool, silence: float
) -> None:
    assert _silence(timeout, emulated) == silence


FAKE = """
import sys, json, struct, hashlib
def say(header):
    text = json.dumps({**header, "blobs": []}).encode()
    sys.stdout.buffer.write(b"QCF1" + struct.pack("<I", len(text)) + text)
    sys.stdout.buffer.flush()
def hear():
    (n,) = struct.unpack("<I", sys.stdin.buffer.read(8)[4:])
    header = json.loads(sys.stdin.buffer.read(n))
    for size, _ in header["blobs"]:
        sys.stdin.buffer.read(size)
    return header if header["op"] != "ping" else hear()
sys.stdin.buffer.read(int(sys.stdin.buffer.readline()))
sys.stdout.write("\\nQCOMPILE-AGENT " + hear()["word"] + "\\n")
sys.stdout.flush()
INFO = dict(machine="m", system="s", cpu="", cores=1, flags=[], runtimes={}, governor="",
            temperature=None)
"""


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("say({})", "version None"),
        ("say({'version': 99})", "version 99"),
        ("say({'version': 1})", "what it is"),
        ("say({'version': 1, 'device': []})", "what it is"),
        ("say({'version': 1, 'device': INFO}); hear(); say({})", "no ends"),
        ("say({'version': 1, 'device': INFO}); hear(); say({'arrays': 7})", "makes no sense"),
        ("say({'version': 1, 'device': INFO}); hear(); sys.exit(9)", "exit code 9"),
        ("say({'version': 1, 'device': INFO}); hear(); say({'error': 'X'})", "makes no sense: X"),
    ],
)
def test_a_peer_that_is_no_agent_of_ours(code: str, says: str) -> None:
    def use() -> None:
        with AgentDevice(Transport("peer", (sys.executable, "-c", FAKE + code))) as device:
            device.session(onnx_program(AFFINE))

    with pytest.raises(QCompileError, match=says) as caught:
        use()
    assert caught.value.code is Code.DEVICE_LOST


def test_an_interrupt_in_the_middle_ends_the_agent() -> None:
    """Ctrl-C: what is half read can never be taken for the next answer."""
    with open_device("local") as device:
        assert isinstance(device, AgentDevice)
        session = device.session(onnx_program(ENDLESS))
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            session.run(ENDLESS_FEED)
        assert wait_until(lambda: state(device.process) == "")
        with pytest.raises(QCompileError) as caught:
            session.run(ENDLESS_FEED)
        assert caught.value.code is Code.DEVICE_LOST


def test_another_interpreter(tmp_path: Path) -> None:
    """Its name may hold anything: no shell reads it."""
    python = tmp_path / "a 'python' $(id)"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    with open_device(f"local:{python}") as device:
        assert device.info.spec == f"local:{python}"
        assert len(device.session(onnx_program(AFFINE)).run(AFFINE_FEED)) == 1


@pytest.mark.parametrize("without", ["numpy", "onnxruntime"])
def test_an_interpreter_that_lacks_something(tmp_path: Path, without: str) -> None:
    folder = tmp_path / "site"
    folder.mkdir()
    trap = f"raise ModuleNotFoundError(\"No module named '{without}'\")\n"
    (folder / f"{without}.py").write_text(trap)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec {sys.executable} "$@"\n')
    python.chmod(0o755)

    def use() -> None:
        with open_device(f"local:{python}") as device:
            device.session(onnx_program(AFFINE))

    with pytest.raises(QCompileError, match=without) as caught:
        use()
    assert caught.value.code is Code.MISSING_RUNTIME
