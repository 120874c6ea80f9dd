"""qcompile.toml: where it is found, what may stand in it, and how a mistake is named."""

from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.config import Config, load_config
from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.errors import Code, QCompileError
from qcompile.core.signature import Signature, TensorSpec

FULL = """
[preprocess]
resize = 256
filter = "bicubic"
crop = [224, 200]
color = "bgr"
scale = 1
mean = [123.675, 116.28, 103.53]
std = 58.395
layout = "nhwc"

[data]
calibration = "lists/calibration.txt"
eval = "eval"
labels = "labels.csv"
label_pattern = '^(\\d+)_'
include = ["*.jpg"]
root = "pictures"
limit = 100
constants = { sr = 16000, mask = [[1, 1], [0, 1]] }

[build]
target = ["ort-x86-avx2", "ort-arm64"]
scheme = "w8a8"
seed = 3
shapes = { input = [1, 3, 224, 224] }
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_section(tmp_path):
    config = load_config(write(tmp_path / "qcompile.toml", FULL))
    assert config.preprocess == Preprocess(
        resize=256, filter="bicubic", crop=(224, 200), color="bgr", scale=1.0,
        mean=(123.675, 116.28, 103.53), std=58.395, layout="nhwc",
    )  # fmt: skip
    assert config.data.constants == {"sr": 16000, "mask": ((1, 1), (0, 1))}
    assert config.build.target == ("ort-x86-avx2", "ort-arm64")
    assert config.build.shapes == {"input": (1, 3, 224, 224)}
    assert config.build.effort is None


def test_paths_are_relative_to_the_file(tmp_path):
    config = load_config(write(tmp_path / "sub" / "qcompile.toml", FULL))
    spec, options = config.data_source("calibration")
    assert spec == "lists/calibration.txt"
    assert (options.folder, options.root) == (tmp_path / "sub", tmp_path / "sub" / "pictures")
    assert (options.labels, options.limit) == (None, 100)
    spec, options = config.data_source("eval")
    assert (spec, options.labels) == ("eval", tmp_path / "sub" / "labels.csv")
    assert options.limit is None
    spec, options = config.data_source("eval", "mine.npz")
    assert (spec, options.folder) == ("mine.npz", Path())


def test_labels_go_with_the_calibration_set_when_it_is_judged(tmp_path):
    text = '[data]\ncalibration = "calib"\nlabels = "labels.csv"\n'
    config = load_config(write(tmp_path / "qcompile.toml", text))
    assert config.data_source("calibration")[1].labels == tmp_path / "labels.csv"
    assert config.data_source("eval") is None
    assert Config().data_source("calibration") is None


def test_data_of_a_config_open(tmp_path, monkeypatch):
    np.savez(tmp_path / "calib.npz", x=np.zeros((3, 2), np.uint8))
    write(tmp_path / "qcompile.toml", '[data]\ncalibration = "calib.npz"\n[preprocess]\nmean = 1\n')
    write(tmp_path / "deep" / "er" / "model.txt", "")
    monkeypatch.chdir(tmp_path / "deep" / "er")
    config = load_config()
    spec, options = config.data_source("calibration")
    sig = Signature((TensorSpec("x", "float32", ("N", 2)),), ())
    data = open_data(spec, sig, config.preprocess, options=options)
    assert data[2].feeds["x"].tolist() == [[-1, -1]]


def test_search_stops_at_the_repository(tmp_path):
    write(tmp_path / "qcompile.toml", "[build]\nseed = 1\n")
    inside = tmp_path / "repository" / "src"
    inside.mkdir(parents=True)
    assert load_config(start=inside).build.seed == 1
    (tmp_path / "repository" / ".git").mkdir()
    assert load_config(start=inside) == Config()
    project = write(tmp_path / "repository" / "pyproject.toml", "[tool.other]\nx = 1\n")
    assert load_config(start=inside) == Config()
    write(project, "[tool.qcompile.build]\nseed = 2\n")
    assert load_config(start=inside).build.seed == 2
    write(tmp_path / "repository" / "qcompile.toml", "[build]\nseed = 3\n")
    assert load_config(start=inside).build.seed == 3
    assert load_config(project).build.seed == 2


def test_flags_win():
    config = Config().replace("build", scheme="w8a8", seed=1)
    changed = config.replace("build", scheme="float", seed=None, shapes={})
    assert (changed.build.scheme, changed.build.seed) == ("float", 1)
    assert config.build.scheme == "w8a8"
    assert Config().replace("build", seed=0).build.seed == 0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[preproces]\n", ["'preproces'", "did you mean 'preprocess'?"]),
        ("[preprocess]\nmeans = 1\n", ["'preprocess.means'", "did you mean 'mean'?"]),
        ("[build]\nzzz = 1\n", ["'build.zzz'", "known are target, scheme"]),
        ("preprocess = 3\n", ["preprocess must be a table, not 3"]),
        (
            '[preprocess]\nmean = "1"\n',
            ["preprocess.mean must be a number or a list (a number each)"],
        ),
        ("[preprocess]\nmean = [true]\n", ["preprocess.mean must be"]),
        ("[preprocess]\nresize = [1, 2, 3]\n", ["preprocess.resize must be a whole number or ["]),
        ('[preprocess]\nlayout = "hwc"\n', ["preprocess.layout must be one of 'auto', 'nchw'"]),
        ("[preprocess]\nstd = 0\n", ["std must not be 0"]),
        ("[build]\nseed = 1.5\n", ["build.seed must be a whole number, not 1.5"]),
        ("[build]\nseed = true\n", ["build.seed must be a whole number, not True"]),
        ("[build]\nshapes = { x = [1, 'a'] }\n", ["build.shapes must be a table"]),
        ('[data]\ninclude = "*.jpg"\n', ["data.include must be a list (a text each)"]),
        ('[data]\nlabels = ""\n', ["data.labels must be a path"]),
        ("[data]\nlimit = 0\n", ["limit must be at least 1"]),
        ("[data]\nholdout = 1\n", ["holdout must be between 0 and 1"]),
        ("[data]\nconstants = { x = 'a' }\n", ["data.constants must be a table"]),
        ("[data\n", ["not valid TOML"]),
    ],
)
def test_mistakes_are_named(tmp_path, text, words):
    path = write(tmp_path / "qcompile.toml", text)
    with pytest.raises(QCompileError) as caught:
        load_config(path)
    assert caught.value.code is Code.BAD_CONFIG
    for word in (*words, str(path)):
        assert word in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    for path, word in ((tmp_path / "none.toml", "there is no"), (tmp_path, "cannot be read")):
        with pytest.raises(QCompileError) as caught:
            load_config(path)
        assert caught.value.code is Code.BAD_CONFIG
        assert word in caught.value.message
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(QCompileError) as caught:
        load_config(tmp_path / "bad.toml")
    assert caught.value.code is Code.BAD_CONFIG


def test_language_models(tmp_path):
    text = (
        '[data]\ncalibration = "book.txt"\ntokenizer = "llm"\ntokens = 128\n\n'
        '[genai]\neos = ["<eos>", 3]\nbos = 1\ncontext_length = 512\ntype = "phi"\n'
    )
    config = load_config(write(tmp_path / "qcompile.toml", text))
    spec, options = config.data_source("calibration")
    assert (spec, options.tokenizer, options.tokens) == ("book.txt", tmp_path / "llm", 128)
    assert config.tokenizer == tmp_path / "llm"
    assert (config.genai.eos, config.genai.bos, config.genai.type) == (("<eos>", 3), 1, "phi")
    for wrong in ("[data]\ntokens = 1", "[genai]\ncontext_length = 0", "[genai]\neos = 1.5"):
        with pytest.raises(QCompileError) as caught:
            load_config(write(tmp_path / "wrong.toml", wrong))
        assert caught.value.code is Code.BAD_CONFIG
