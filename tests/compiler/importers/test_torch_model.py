"""PyTorch modules come in, run as torch runs them, and are built for both runtimes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import qcompile
from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import load_source, open_source
from qcompile.core.errors import Code, QCompileError

NETS = Path(__file__).with_name("torch_nets.py")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder, and his current one, with a module ``nets``."""
    shutil.copy(NETS, tmp_path / "nets.py")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_onnx(path: Path, inputs: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {session.get_inputs()[0].name: inputs})
    return np.asarray(outputs)


@pytest.mark.torch
@pytest.mark.litert
@pytest.mark.parametrize(
    ("name", "ends", "node", "onnxruntime_db", "tflite_db"),
    [
        ("resnet", ("image", "linear"), "layers.1.bn2/", 32, 23),
        ("mobilenet", ("image", "linear_1"), "features.3.block.6.fc1/", 33, 31),
        ("vit", ("image", "linear_4"), "mlp.0/", 37, 30),
        ("lstm", ("steps", "logits"), "rnn/", 45, 32),
        ("gru", ("features", "logits"), "rnn/", 45, 28),
    ],
)
def test_networks_are_imported_and_built(
    name: str,
    ends: tuple[str, str],
    node: str,
    onnxruntime_db: float,
    tflite_db: float,
    folder: Path,
    record_property: Callable[[str, object], None],
) -> None:
    with open_source(f"nets:{name}") as source:
        imported = load_source(source)
        with np.load(folder / f"{name}.npz") as kept:
            inputs, outputs = kept["inputs"], kept["outputs"]
        given, made = imported.signature.inputs[0], imported.signature.outputs[0]
        assert (given.name, made.name) == ends
        assert given.shape == ("batch", *inputs.shape[1:])
        assert made.shape[0] == "batch"
        assert any(str(n.name).startswith(node) for n in imported.model.graph)
        assert imported.files == (folder / "nets.py",)
        said = run_onnx(source.path, inputs)
        assert np.abs(said - outputs).max() <= 1e-5 * np.abs(outputs).max()
        samples = np.random.default_rng(0).standard_normal((40, *inputs.shape[1:]), np.float32)
        for target, least in (("ort-x86-vnni", onnxruntime_db), ("tflite-x86", tflite_db)):
            built = qcompile.build(
                source.path,
                target=target,
                data={given.name: samples[:32]},
                eval_data={given.name: samples[32:]},
                effort="fast",
                latency=False,
            )
            accuracy = built.report.accuracy
            assert accuracy is not None
            record_property(f"sqnr {target}", accuracy.worst_sqnr_db)
            assert accuracy.worst_sqnr_db is not None and accuracy.worst_sqnr_db >= least


@pytest.mark.torch
def test_a_build_names_the_function(folder: Path) -> None:
    (folder / "data.py").write_text(
        "import numpy as np\n"
        "def samples(): return np.random.default_rng(0).standard_normal((8, 3, 32, 32), np.float32)"
    )
    built = qcompile.build(
        "nets:resnet", target="ort-x86-vnni", data="data:samples", effort="fast", latency=False
    )
    assert built.report.model.name == "nets:resnet"
    assert built.report.model.bytes > len(built.artefact) > built.report.model.bytes / 5


@pytest.mark.torch
@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("def f(): raise KeyError('lost')", "no:f raised KeyError: 'lost' (no.py, line 2)"),
        ("import sys\ndef f(): print('noise'); sys.exit(3)", "sys.exit(3)"),
        ("def f(): return torch.nn.Linear(2, 3)", "a module without example inputs"),
        (
            "class M(torch.nn.Module):\n"
            "  def forward(self, x): return x if x.sum() > 0 else -x\n"
            "def f(): return M(), torch.ones(1, 2)",
            "torch.export refuses the model",
        ),
        (
            "def f(): return torch.nn.Linear(2, 3), torch.ones(1, 2), ['a', 'b']",
            "2 names were given for 1 inputs",
        ),
    ],
)
def test_what_the_user_did_wrong_is_told(code: str, said: str, folder: Path) -> None:
    (folder / "no.py").write_text(f"import torch\n{code}\n")
    with pytest.raises(QCompileError) as caught, open_source("no:f"):
        pass
    assert caught.value.code is Code.IMPORT_FAILED
    assert said in caught.value.message


@pytest.mark.torch
def test_a_function_that_is_not_there(folder: Path) -> None:
    with pytest.raises(QCompileError) as caught, open_source("nets:alexnet"):
        pass
    assert caught.value.code is Code.MODEL_NOT_FOUND


@pytest.mark.torch
def test_a_batch_that_cannot_be_open_is_fixed_and_said(folder: Path) -> None:
    (folder / "fixed.py").write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "  def forward(self, x): return x.reshape(1, 8) * 2\n"
        "def f(): return M(), torch.ones(1, 2, 4)\n"
    )
    with open_source("fixed:f") as source:
        imported = load_source(source)
    assert imported.signature.inputs[0].shape == (1, 2, 4)
    assert any("the batch is fixed" in note.message for note in imported.notes)


@pytest.mark.torch
def test_several_inputs_by_name_and_dimensions_of_the_users(folder: Path) -> None:
    (folder / "two.py").write_text(
        "import torch\n"
        "class M(torch.nn.Module):\n"
        "  def forward(self, left, right): return torch.cat([left, right], 1)\n"
        "def f(): return M(), {'left': torch.ones(1, 2), 'right': torch.ones(1, 3)}\n"
        "def g(): return M(), (torch.ones(2, 2), torch.ones(2, 3)), "
        "({1: torch.export.Dim('wide')}, {}), ['a', 'b']\n"
    )
    with open_source("two:f") as source:
        inputs = load_source(source, allow_integer=True).signature.inputs
    assert [(i.name, i.shape) for i in inputs] == [("left", ("batch", 2)), ("right", ("batch", 3))]
    with open_source("two:g") as source:
        inputs = load_source(source, allow_integer=True).signature.inputs
    assert [i.name for i in inputs] == ["a", "b"]
    assert [type(d) for d in inputs[0].shape] == [int, str]


@pytest.mark.torch
def test_a_program_of_torch_export_needs_no_trust(folder: Path) -> None:
    import torch

    batch = ({0: torch.export.Dim("batch", max=64)},)
    program = torch.export.export(
        torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Flatten()),
        (torch.ones(2, 5, 4),),
        dynamic_shapes=batch,
    )
    torch.export.save(program, folder / "model.pt2")
    inputs = np.random.default_rng(0).standard_normal((3, 5, 4), np.float32)
    with open_source(folder / "model.pt2") as source:
        assert source.format == "torch.export"
        imported = load_source(source)
        said = run_onnx(source.path, inputs)
    assert imported.signature.inputs[0].shape[0] == "batch"
    assert imported.files == (folder / "model.pt2",)
    with torch.no_grad():
        assert np.abs(said - program.module()(torch.from_numpy(inputs)).numpy()).max() < 1e-5


@pytest.mark.torch
def test_a_pickled_module_is_read_when_it_is_trusted(folder: Path) -> None:
    import torch

    torch.save(torch.nn.Linear(4, 3), folder / "model.pth")
    with pytest.raises(QCompileError) as caught, open_source("model.pth"):
        pass
    assert caught.value.code is Code.UNTRUSTED_MODEL
    options = ImportOptions(trust=True, shapes={"input": (1, 4)})
    with open_source("model.pth", options) as source:
        assert load_source(source).signature.inputs[0].shape == ("batch", 4)
    torch.save(torch.nn.Linear(4, 3).state_dict(), folder / "weights.pt")
    with (
        pytest.raises(QCompileError, match="weights only"),
        open_source("weights.pt", ImportOptions(trust=True)),
    ):
        pass


@pytest.mark.torch
@pytest.mark.torchao
def test_a_network_trained_with_torchao_keeps_its_scales(folder: Path) -> None:
    """Torch's own quantized reference, within one step of the output's scale."""
    with open_source("nets:trained_quantized") as source:
        with np.load(folder / "trained_quantized.npz") as kept:
            inputs, outputs = kept["inputs"], kept["outputs"]
        built = qcompile.build(
            source.path, target="ort-x86-vnni", data={"image": inputs}, latency=False
        )
    (folder / "built.onnx").write_bytes(built.artefact)
    said = run_onnx(folder / "built.onnx", inputs)
    step = np.diff(np.unique(outputs)).min()
    off = np.rint(np.abs(said - outputs) / step)
    assert (off <= 1).mean() >= 0.95
    left = [row.op for row in built.report.coverage.ops if row.float and row.op in ("Conv", "Gemm")]
    assert left == []


def test_without_torch_the_error_names_the_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "torch.py").write_text("raise ModuleNotFoundError('no torch', name='torch')")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    with pytest.raises(QCompileError) as caught, open_source("nets:resnet"):
        pass
    assert caught.value.code is Code.MISSING_EXTRA
    assert caught.value.hint == "pip install 'qcompile-edge[torch]'"
