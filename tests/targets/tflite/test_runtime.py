"""Sessions under LiteRT: kernels, names, threads, refusals, silence."""

import builtins
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qcompile.core.errors import Code, QCompileError
from qcompile.targets.tflite.builder import Builder, Options
from qcompile.targets.tflite.runtime import Kernels, TfliteSession, runtime_name
from tests.targets.tflite.sound import changed, sound

FEEDS = {
    "x": np.arange(32, dtype=np.int8).reshape(1, 4, 4, 2),
    "other": np.arange(16, dtype=np.int8).reshape(1, 2, 2, 4),
}


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
@pytest.mark.parametrize("from_file", [False, True])
def test_every_kernel_set_runs(kernels: Kernels, from_file: bool, tmp_path: Path) -> None:
    path = tmp_path / "with a space é.tflite"
    path.write_bytes(sound())
    session = TfliteSession(path if from_file else sound(), kernels)
    assert session.input_names == ("x", "other")
    assert session.output_names == ("softmax",)
    (result,) = session.run(FEEDS)
    assert result.shape == (1, 6) and result.dtype == np.int8
    assert abs(int(result.astype(int).sum()) + 6 * 128 - 256) <= 6, "shares of 256"


def test_without_a_signature_tensors_are_named() -> None:
    def drop(model: Any) -> None:
        model.signatureDefs = None

    session = TfliteSession(changed(sound(), drop))
    assert (session.input_names, session.output_names) == (("x", "other"), ("softmax",))


def test_tensors_inside_can_be_read() -> None:
    session = TfliteSession(sound(), "reference", outputs=["conv", "fc", "softmax"])
    conv, fc, softmax = session.run(FEEDS)
    assert (conv.shape, fc.shape, softmax.shape) == ((1, 2, 2, 4), (1, 3), (1, 6))
    assert np.array_equal(softmax, TfliteSession(sound(), "reference").run(FEEDS)[0])
    with pytest.raises(QCompileError) as caught:
        TfliteSession(sound(), outputs=["nothing"])
    assert caught.value.code is Code.BAD_OPTION


def test_runs_at_the_same_time_do_not_mix() -> None:
    session = TfliteSession(sound(), "builtin")
    rng = np.random.default_rng(0)
    feeds = [
        {name: rng.integers(-128, 128, a.shape).astype(np.int8) for name, a in FEEDS.items()}
        for _ in range(200)
    ]
    alone = [session.run(feed)[0] for feed in feeds]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda feed: session.run(feed)[0], feeds))
    assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def test_a_scalar_is_fed_as_one() -> None:
    b = Builder()
    x, y = (b.tensor(name, (), "float32") for name in "xy")
    b.operator("ABS", [x], [y], Options("AbsOptions", {}))
    session = TfliteSession(b.finish([x], [y], names=(["x"], ["y"]), description="t"))
    (result,) = session.run({"x": np.asarray(-2.0, np.float32)})
    assert result.shape == () and result == 2.0


def test_a_result_is_not_overwritten_by_the_next_run() -> None:
    session = TfliteSession(sound())
    first = session.run(FEEDS)[0]
    kept = first.copy()
    session.run({name: -a for name, a in FEEDS.items()})
    assert np.array_equal(first, kept)


def test_open_dimensions_follow_the_feed() -> None:
    b = Builder()
    x = b.tensor("x", (1, 4), "float32", signature=(-1, 4))
    y = b.tensor("y", (1, 4), "float32", signature=(-1, 4))
    b.operator("EXP", [x], [y], Options("ExpOptions", {}))
    session = TfliteSession(b.finish([x], [y], names=(["x"], ["y"]), description="t"))
    for rows in (3, 1, 5):
        (result,) = session.run({"x": np.zeros((rows, 4), np.float32)})
        assert np.array_equal(result, np.ones((rows, 4)))


@pytest.mark.parametrize(
    ("feeds", "what"),
    [
        ({"x": FEEDS["x"]}, "input 'other' is not given"),
        ({**FEEDS, "x": FEEDS["x"].astype(np.float32)}, "FLOAT32"),
        ({**FEEDS, "x": FEEDS["x"][:, :3]}, "Dimension mismatch"),
    ],
)
def test_feeds_that_do_not_fit_are_named(feeds: dict[str, np.ndarray], what: str) -> None:
    session = TfliteSession(sound())
    with pytest.raises(QCompileError) as caught:
        session.run(feeds)
    assert caught.value.code is Code.RUNTIME_FAILED
    assert what in caught.value.message
    session.run(FEEDS)  # it still works


def test_a_model_that_does_not_load_is_refused_with_the_reason(tmp_path: Path) -> None:
    def version(model: Any) -> None:
        model.operatorCodes[0].version = 99

    with pytest.raises(QCompileError) as caught:
        TfliteSession(changed(sound(), version))
    assert caught.value.code is Code.RUNTIME_REFUSED
    assert "CONV_2D" in caught.value.message
    for nothing in (b"", b"nonsense", tmp_path / "missing.tflite"):
        with pytest.raises(QCompileError) as caught:
            TfliteSession(nothing)
        assert caught.value.code is Code.RUNTIME_REFUSED


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("ai_edge_litert"):
            raise ImportError(name)
        return real(name, *rest, **more)

    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setattr("qcompile.targets.tflite.runtime.version", nothing)
    for call in (lambda: TfliteSession(sound()), runtime_name):
        with pytest.raises(QCompileError) as caught:
            call()
        assert caught.value.code is Code.MISSING_EXTRA
        assert caught.value.hint == "pip install 'qcompile-edge[tflite]'"


def test_the_runtime_is_named() -> None:
    assert runtime_name().startswith("LiteRT 2.")


def test_nothing_is_written_to_the_standard_error(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(sound())
    code = (
        "import sys; from pathlib import Path\n"
        "from qcompile.targets.tflite.runtime import TfliteSession\n"
        "TfliteSession(Path(sys.argv[1])); print('kept', file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("", "kept\n")
