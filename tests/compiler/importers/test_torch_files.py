"""Which files of PyTorch could run code: told from crafted archives, without PyTorch."""

import json
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest

from qcompile.compiler.importers.options import ImportOptions
from qcompile.compiler.importers.source import open_source
from qcompile.compiler.importers.torch_files import is_pickle, is_program, why_untrusted
from qcompile.core.errors import Code, QCompileError

SOUND = {
    "model/archive_format": "pt2",
    "model/archive_version": "0",
    "model/byteorder": "little",
    "model/.data/serialization_id": "1",
    "model/data/sample_inputs/model.pt": "a pickle that is read by the restricted loader",
    "model/data/weights/weight_0": "\0\0\0\0",
    "model/data/weights/model_weights_config.json": json.dumps(
        {"config": {"fc.weight": {"path_name": "weight_0", "use_pickle": False}}}
    ),
    "model/data/constants/model_constants_config.json": json.dumps({"config": {}}),
    "model/models/model.json": json.dumps(
        {
            "guards_code": [],
            "range_constraints": {"s77": {"min_val": 2, "max_val": 64}},
            "graph_module": {
                "signature": {"input_specs": [{"buffer": {"arg": {"name": "b_x"}, "target": "x"}}]},
                "graph": {
                    "nodes": [
                        {"target": "torch.ops.aten.conv2d.default", "inputs": []},
                        {"target": "torch.ops.aten._softmax.default", "inputs": []},
                        {"target": "torch.ops.quantized_decomposed.quantize_per_tensor.default"},
                        {"target": "_operator.mul"},
                        {"target": "torch.sym_max"},
                    ],
                    "sym_int_values": {
                        "a": {"expr_str": "4*FloorDiv(s77 - 1, 2) + Max(1, u0)"},
                        "b": {"expr_str": "Mul(Integer(2), Symbol('s77', positive=True))"},
                    },
                },
            },
        }
    ),
}
"""An archive as ``torch.export.save`` writes it, less what does not matter here."""


def archive(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, text in members.items():
            file.writestr(name, text)
    return path


def with_model(**changed: object) -> dict[str, str]:
    document = json.loads(SOUND["model/models/model.json"])
    return {**SOUND, "model/models/model.json": json.dumps({**document, **changed})}


def test_a_program_as_torch_saves_it_is_taken(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.bin", SOUND)
    assert is_program(path) and not is_pickle(path)
    assert why_untrusted(path) is None


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({**SOUND, "model/data/weights/x.pkl": ""}, "the pickle model/data/weights/x.pkl"),
        ({**SOUND, "model/data/aotinductor/model/a.so": ""}, "compiled code"),
        ({**SOUND, "model/data/constants/../../x": ""}, "may be a pickle"),
        (
            {
                **SOUND,
                "model/data/weights/model_weights_config.json": json.dumps(
                    {"config": {"w": {"path_name": "weight_0", "use_pickle": True}}}
                ),
            },
            "some of its tensors are pickles",
        ),
        (
            {
                **SOUND,
                "model/data/constants/model_constants_config.json": json.dumps(
                    {"config": {"w": {"path_name": "custom_obj_0", "use_pickle": False}}}
                ),
            },
            "custom_obj_0",
        ),
        (with_model(guards_code=["__import__('os')"]), "guards"),
        (with_model(x={"expr_str": "__import__('os').system('true')"}), "evaluate as Python"),
        (with_model(x={"expr_str": "exit(1)"}), "evaluate as Python"),
        (with_model(x={"expr_str": "Symbol('s0.real')"}), "evaluate as Python"),
        (with_model(x={"expr_str": "s0.__class__"}), "evaluate as Python"),
        (with_model(x={"target": "torch.os.system"}), "no operator of a model"),
        (with_model(x={"target": "torch.ops.aten.__class__"}), "no operator of a model"),
        (with_model(x={"target": "torch.ops.load_library"}), "no operator of a model"),
        (with_model(x={"target": "_operator.methodcaller"}), "no operator of a model"),
        (with_model(x={"target": "#anything:x"}), "no operator of a model"),
        (with_model(x=[{"name": "x):\n import os #"}]), "write into Python code"),
    ],
)
def test_what_could_run_code_is_refused(members: dict[str, str], said: str, tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt2", members)
    with pytest.raises(QCompileError) as caught, open_source(path):
        pass
    assert caught.value.code is Code.UNTRUSTED_MODEL
    assert said in caught.value.message
    assert "--trust-model" in str(caught.value.hint)


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt2", {**SOUND, "model/MODELS/model.json": "{}"})
    with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.writestr("model/models/model.json", SOUND["model/models/model.json"])
    assert "two files of one name" in str(why_untrusted(path))


@pytest.mark.parametrize(
    "members",
    [
        {"archive/data.pkl": "", "archive/version": "3"},
        {"archive/data.pkl": "", "archive/constants.pkl": "", "archive/code/x.py": ""},
    ],
)
@pytest.mark.parametrize("name", ["model.pt", "model.onnx", "model.weights"])
def test_archives_of_pickles_are_told_by_content(
    members: dict[str, str], name: str, tmp_path: Path
) -> None:
    path = archive(tmp_path / name, members)
    with pytest.raises(QCompileError) as caught, open_source(path):
        pass
    assert caught.value.code is Code.UNTRUSTED_MODEL


def test_programs_of_old_torch_hold_pickles(tmp_path: Path) -> None:
    old = {"serialized_exported_program.json": "{}", "serialized_state_dict.pt": "", "version": "5"}
    path = archive(tmp_path / "model.pt2", old)
    with pytest.raises(QCompileError, match="serialized_") as caught, open_source(path):
        pass
    assert caught.value.code is Code.UNTRUSTED_MODEL


def test_bare_pickles_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    path.write_bytes(pickle.dumps(object()))
    with pytest.raises(QCompileError) as caught, open_source(path, ImportOptions()):
        pass
    assert caught.value.code is Code.UNTRUSTED_MODEL


@pytest.mark.parametrize("cut", [0, 40, 400])
def test_damaged_programs_are_invalid(cut: int, tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.pt2", SOUND).read_bytes()
    path = tmp_path / "model.pt2"
    path.write_bytes(whole[:cut])
    with pytest.raises(QCompileError) as caught, open_source(path):
        pass
    assert caught.value.code is Code.MODEL_INVALID


def test_a_program_whose_text_is_no_json_is_invalid(tmp_path: Path) -> None:
    path = archive(tmp_path / "model.pt2", {**SOUND, "model/models/model.json": "{"})
    with pytest.raises(QCompileError) as caught, open_source(path):
        pass
    assert caught.value.code is Code.MODEL_INVALID
