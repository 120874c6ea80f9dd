"""What is kept beside the output is taken up by the same build, and by no other."""

from pathlib import Path

import numpy as np

from qcompile.compiler.search.partial import Partial, key_of

FEEDS = [{"x": np.arange(6, dtype=np.int64).reshape(2, 3)}]


def test_results_are_taken_up(tmp_path: Path) -> None:
    folder = tmp_path / "m.onnx.partial"
    first = Partial(folder, "key")
    assert first.get(0) is None
    first.put(0, {"a": np.arange(3), "b": np.array(["gptq"])})
    second = Partial(folder, "key")
    found = second.get(0)
    assert found is not None
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].tolist() == ["gptq"]
    assert second.get(1) is None
    assert second.resumed == 1
    second.clear()
    assert not folder.exists()


def test_those_of_another_build_go(tmp_path: Path) -> None:
    folder = tmp_path / "m.onnx.partial"
    Partial(folder, "key").put(0, {"a": np.zeros(1)})
    assert Partial(folder, "other").get(0) is None
    assert not folder.exists()


def test_a_result_that_was_cut_short_does_not_count(tmp_path: Path) -> None:
    folder = tmp_path / "m.onnx.partial"
    kept = Partial(folder, "key")
    kept.put(0, {"a": np.zeros(1000)})
    file = folder / "00000.npz"
    file.write_bytes(file.read_bytes()[:100])
    assert Partial(folder, "key").get(0) is None


def test_nothing_is_kept_without_a_folder(tmp_path: Path) -> None:
    kept = Partial(None, "key")
    kept.put(0, {"a": np.zeros(1)})
    assert kept.get(0) is None
    kept.clear()


def test_a_folder_that_cannot_be_written_costs_no_build(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kept = Partial(tmp_path / "file" / "m.partial", "key")
    kept.put(0, {"a": np.zeros(1)})
    assert kept.get(0) is None


def test_the_key_hangs_on_model_options_and_samples() -> None:
    base = key_of("print", ("w4", None), FEEDS)
    assert base == key_of("print", ("w4", None), [{"x": FEEDS[0]["x"].copy()}])
    assert base != key_of("other", ("w4", None), FEEDS)
    assert base != key_of("print", ("w2", None), FEEDS)
    assert base != key_of("print", ("w4", None), [{"x": FEEDS[0]["x"] + 1}])
