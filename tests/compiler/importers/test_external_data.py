"""Weights beside the model: which files are read, which are refused, and that none is copied."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.errors import Code, QCompileError
from tests.compiler import small
from tests.compiler.importers.build import parse, save

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3)


def model(location: str, *, offset: int | None = 0, length: int | None = 48) -> onnx.ModelProto:
    proto = parse(
        "g (float[2,4] x) => (float[2,3] y) { y = MatMul(x, w) }".replace(
            "=> (float[2,3] y)", "=> (float[2,3] y) <float[1] w = {0}>"
        )
    )
    tensor = proto.graph.initializer[0]
    tensor.ClearField("float_data")
    tensor.ClearField("raw_data")
    tensor.dims[:] = [4, 3]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    entries = {"location": location, "offset": offset, "length": length}
    for key, value in entries.items():
        if value is not None:
            tensor.external_data.add(key=key, value=str(value))
    return proto


def weights_of(path: Path) -> np.ndarray:
    value = load_onnx(path).model.graph.initializers["w"]
    assert isinstance(value.const_value, ir.ExternalTensor)
    return value.const_value.numpy()


def refusal(path: Path) -> str:
    with pytest.raises(QCompileError) as caught:
        load_onnx(path)
    assert caught.value.code is Code.EXTERNAL_DATA
    return str(caught.value)


@pytest.mark.parametrize("location", ["w.bin", "data/w.bin", "data/../w.bin", "w eights'\".ü"])
def test_beside_the_model(location: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / location).write_bytes(WEIGHTS.tobytes())
    assert np.array_equal(weights_of(save(model(location), tmp_path)), WEIGHTS)


def test_offset_and_length_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = save(model("w.bin", offset=None, length=None), tmp_path)
    assert np.array_equal(weights_of(path), WEIGHTS)


def test_from_another_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(b"12345678" + WEIGHTS.tobytes())
    save(model("w.bin", offset=8), tmp_path)
    monkeypatch.chdir(tmp_path)
    loaded = load_onnx(Path("model.onnx"))
    monkeypatch.chdir("/")
    tensor = loaded.model.graph.initializers["w"].const_value
    assert tensor is not None
    assert np.array_equal(tensor.numpy(), WEIGHTS)


def test_hugging_face_cache(tmp_path: Path) -> None:
    """Model and data are both links into blobs/, under names that say nothing."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123" / "onnx"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "beef").write_bytes(WEIGHTS.tobytes())
    save(model("model.onnx_data"), blobs, "cafe")
    (snapshot / "model.onnx").symlink_to("../../../blobs/cafe")
    (snapshot / "model.onnx_data").symlink_to("../../../blobs/beef")
    assert np.array_equal(weights_of(snapshot / "model.onnx"), WEIGHTS)


def bazel(tmp_path: Path, data: str) -> Path:
    """Runfiles and a sandbox: link upon link, the last ones into the tree of sources."""
    sources, sandbox, runfiles = (tmp_path / name for name in ("src/pkg", "execroot", "a.runfiles"))
    for folder in (sources, sandbox / "pkg", runfiles / "_main" / "pkg", tmp_path / "out"):
        folder.mkdir(parents=True)
    (tmp_path / data).write_bytes(WEIGHTS.tobytes())
    save(model("model.onnx_data"), sources)
    for name, real in (
        ("model.onnx", sources / "model.onnx"),
        ("model.onnx_data", tmp_path / data),
    ):
        (sandbox / "pkg" / name).symlink_to(real)
        (runfiles / "_main" / "pkg" / name).symlink_to(sandbox / "pkg" / name)
    return runfiles / "_main" / "pkg" / "model.onnx"


def test_bazel_runfiles(tmp_path: Path) -> None:
    path = bazel(tmp_path, "src/pkg/model.onnx_data")
    assert np.array_equal(weights_of(path), WEIGHTS)


def test_bazel_data_of_another_package(tmp_path: Path) -> None:
    """The other side: folders that links only pass through allow nothing."""
    assert "leads out" in refusal(bazel(tmp_path, "out/model.onnx_data"))


def test_a_store_with_a_folder_for_each_first_byte(tmp_path: Path) -> None:
    """Refused, as ONNX Runtime does too: nothing says that the files belong together."""
    for first in ("ab", "cd"):
        (tmp_path / "cas" / first).mkdir(parents=True)
    (tmp_path / "cas" / "cd" / "cd1").write_bytes(WEIGHTS.tobytes())
    save(model("w.bin"), tmp_path / "cas" / "ab", "ab0")
    (tmp_path / "model.onnx").symlink_to("cas/ab/ab0")
    (tmp_path / "w.bin").symlink_to("cas/cd/cd1")
    path = tmp_path / "model.onnx"
    assert np.array_equal(weights_of(path), WEIGHTS)  # the store lies in the model's own folder
    (tmp_path / "tree").mkdir()
    for name in ("model.onnx", "w.bin"):
        (tmp_path / "tree" / name).symlink_to(tmp_path / name)
    assert "leads out" in refusal(tmp_path / "tree" / "model.onnx")


@pytest.mark.parametrize("tree", ["hugging face", "bazel"])
def test_the_runtime_that_runs_the_float_model_takes_the_same_trees(
    tree: str, tmp_path: Path
) -> None:
    if tree == "bazel":
        path = bazel(tmp_path, "src/pkg/model.onnx_data")
    else:
        test_hugging_face_cache(tmp_path)
        path = tmp_path / "snapshots" / "0123" / "onnx" / "model.onnx"
    data = {"x": np.random.default_rng(0).normal(size=(2, 16, 2, 4)).astype(np.float32)[0]}
    result = small.built(path, data=data)
    assert result.report.accuracy is not None


def test_linked_folder(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (real / "w.bin").write_bytes(WEIGHTS.tobytes())
    save(model("w.bin"), real)
    (tmp_path / "link").symlink_to(real)
    assert np.array_equal(weights_of(tmp_path / "link" / "model.onnx"), WEIGHTS)


def test_link_out_of_the_folder(tmp_path: Path) -> None:
    """The other side of the cache: the data lead away from where the model really lies."""
    secret, folder = tmp_path / "secret", tmp_path / "model"
    secret.write_bytes(WEIGHTS.tobytes())
    folder.mkdir()
    (folder / "w.bin").symlink_to(secret)
    assert "leads out" in refusal(save(model("w.bin"), folder))


@pytest.mark.parametrize("location", ["../w.bin", "data/../../w.bin"])
def test_path_out_of_the_folder(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert "leads out" in refusal(save(model(location), folder))


@pytest.mark.parametrize("location", ["/etc/passwd", "C:\\w.bin", "\\\\host\\share", ""])
def test_absolute_location(location: str, tmp_path: Path) -> None:
    assert "relative" in refusal(save(model(location), tmp_path))


def test_hard_link(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(WEIGHTS.tobytes())
    os.link(tmp_path / "a.bin", tmp_path / "w.bin")
    assert "hard links" in refusal(save(model("w.bin"), tmp_path))


def test_missing_data(tmp_path: Path) -> None:
    assert "not beside" in refusal(save(model("w.bin"), tmp_path))


def test_data_in_a_circle_of_links(tmp_path: Path) -> None:
    (tmp_path / "w.bin").symlink_to("w.bin")
    assert "w.bin" in refusal(save(model("w.bin"), tmp_path))


def test_data_that_are_a_folder(tmp_path: Path) -> None:
    (tmp_path / "w.bin").mkdir()
    assert "not a readable file" in refusal(save(model("w.bin"), tmp_path))


@pytest.mark.parametrize(("size", "offset"), [(47, 0), (48, 1), (0, 0), (100, 60)])
def test_truncated_data(size: int, offset: int, tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(b"\0" * size)
    assert "truncated" in refusal(save(model("w.bin", offset=offset), tmp_path))


def test_length_that_does_not_fit_the_shape(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    assert "need 48" in refusal(save(model("w.bin", length=44), tmp_path))


def test_in_a_subgraph(tmp_path: Path) -> None:
    inner = model("w.bin").graph
    inner.name = "t"
    del inner.input[:]
    proto = parse(
        """g (bool c, float[2,4] x) => (float[2,3] z) {
            z = If (c) <then_branch = t () => (float[2,3] b) { b = Identity(x) },
                        else_branch = e () => (float[2,3] b) { b = Identity(x) }> }"""
    )
    proto.graph.node[0].attribute[0].g.CopyFrom(inner)
    path = save(proto, tmp_path)
    assert "not beside" in refusal(path)
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    load_onnx(path)


def test_three_gigabytes_take_no_memory(tmp_path: Path) -> None:
    """Six MatMuls of 512 MB each over a file that is one hole."""
    size, layers = 11585, 6  # size * size * 4 = 537 MB
    proto = parse(f"g (float[1,{size}] x) => (float[1,{size}] y) {{ y = Identity(x) }}", opset=17)
    del proto.graph.node[:]
    each = size * size * 4
    for i in range(layers):
        tensor = proto.graph.initializer.add(name=f"w{i}", data_type=1, dims=[size, size])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        for key, value in {"location": "w", "offset": i * each, "length": each}.items():
            tensor.external_data.add(key=key, value=str(value))
        source, target = f"v{i}" if i else "x", f"v{i + 1}" if i + 1 < layers else "y"
        proto.graph.node.add(op_type="MatMul", input=[source, f"w{i}"], output=[target])
    (tmp_path / "w").touch()
    os.truncate(tmp_path / "w", each * layers)
    path = save(proto, tmp_path)
    code = """
import resource, sys
from pathlib import Path
from qcompile.compiler.importers.onnx import load_onnx
from qcompile.core.on_disk import is_mapped
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
model = load_onnx(Path(sys.argv[1])).model
assert all(is_mapped(v.const_value.numpy()) for v in model.graph.initializers.values())
print(peak() - before)
"""
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 50  # MB
