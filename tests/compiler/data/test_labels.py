"""Labels from label files, class folders and patterns."""

import numpy as np
import pytest

from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, pixels, refused, write_picture

SIG = one_input("N", 4, 5, 3)


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "set"
    for name in ("b.png", "a.png", "c.png"):
        write_picture(folder / name, pixels(4, 5))
    return folder


def labels(data):
    assert data.has_labels is all(data[i].label is not None for i in range(len(data)))
    return [data[i].label for i in range(len(data))]


@pytest.mark.parametrize(
    "text",
    [
        "a.png,3\nb.png,2\nc.png,1\n",
        "filename,label\nc.png,1\nb.png,2\na.png,3\nother.png,9\n",
        'a, 3\n"b", 2\n\nc, 1',
        "3\n2\n1\n",
        "label\n3\n2\n1",
        "\ufeffa.png,3\r\nb.png,2\r\nc.png,1\r\n",
    ],
)
def test_label_files(pictures, tmp_path, text):
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8", newline="")
    assert labels(open_data(pictures, SIG, labels=path)) == [3, 2, 1]


def test_label_arrays(pictures, tmp_path):
    np.save(tmp_path / "labels.npy", np.array([3, 2, 1]))
    assert labels(open_data(pictures, SIG, labels=tmp_path / "labels.npy")) == [3, 2, 1]


def test_a_label_file_wins_over_labels_in_the_set(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4, 5, 3)), y=[1, 1])
    (tmp_path / "labels.txt").write_text("8\n9\n")
    data = open_data(tmp_path / "a.npz", SIG, labels=tmp_path / "labels.txt")
    assert labels(data) == [8, 9]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a.png,3\nb.png,2\n", ["c.png"]),
        ("3\n2\n", ["2 labels", "3 samples"]),
        ("a.png,3\nb.png,cat\nc.png,1\n", ["line 2", "cat", "class indices"]),
        ("a.png,3\n2\n1\n", ["some lines"]),
        ("a,b,3\n", ["line 1"]),
        ("", ["no labels"]),
        ("label\n", ["no labels"]),
    ],
)
def test_label_files_that_do_not_fit(pictures, tmp_path, text, words):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    refused(Code.BAD_LABELS, *words, when=lambda: open_data(pictures, SIG, labels=path))


def test_label_files_that_are_none(pictures, tmp_path):
    none = tmp_path / "none.csv"
    refused(Code.DATA_NOT_FOUND, "none.csv", when=lambda: open_data(pictures, SIG, labels=none))
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00")
    refused(
        Code.DATA_UNREADABLE, "binary.csv", when=lambda: open_data(pictures, SIG, labels=binary)
    )


def test_names_for_a_set_without_names(tmp_path):
    (tmp_path / "labels.csv").write_text("a,1\n")
    refused(
        Code.BAD_LABELS, "labels.csv",
        when=lambda: open_data(np.zeros((1, 4, 5, 3)), SIG, labels=tmp_path / "labels.csv"),
    )  # fmt: skip


def test_patterns(tmp_path):
    for name in ("0007_n01.png", "0012_n02.png"):
        write_picture(tmp_path / name, pixels(4, 5))
    for pattern in (r"^(\d+)_", r"\d+", r"^(\d{4})"):
        data = open_data(tmp_path, SIG, options=DataOptions(label_pattern=pattern))
        assert labels(data) == [7, 12]


@pytest.mark.parametrize(
    ("pattern", "code"),
    [(r"^(\d+)-", Code.BAD_LABELS), (r"_(n)", Code.BAD_LABELS), ("(", Code.BAD_CONFIG)],
)
def test_patterns_that_find_nothing(tmp_path, pattern, code):
    write_picture(tmp_path / "0007_n01.png", pixels(4, 5))
    options = DataOptions(label_pattern=pattern)
    refused(code, "label_pattern", when=lambda: open_data(tmp_path, SIG, options=options))


def test_class_folders(tmp_path):
    for name in ("dog/b.png", "cat/z.png", "dog/deep/a.png", ".hidden/x.png", "emu/.y.png"):
        write_picture(tmp_path / name, pixels(4, 5))
    data = open_data(tmp_path, SIG)
    names = [data[i].source.partition("/")[2] for i in range(len(data))]
    assert names == ["cat/z.png", "dog/b.png", "dog/deep/a.png"]
    assert labels(data) == [0, 1, 1]


def test_one_folder_below_is_no_class(tmp_path):
    write_picture(tmp_path / "images" / "a.png", pixels(4, 5))
    assert labels(open_data(tmp_path, SIG)) == [None]


def test_class_folders_of_arrays(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.zeros((4, 5, 3), np.float32))
    assert labels(open_data(tmp_path, SIG)) == [0, 1]


@pytest.mark.parametrize("y", [[1, 2, 3], [[1], [2]], 3])
def test_labels_beside_arrays_must_fit(tmp_path, y):
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 4, 5, 3)), y=y)
    if np.shape(y) == (2, 1):
        assert labels(open_data(tmp_path / "a.npz", SIG)) == [1, 2]
    else:
        refused(Code.BAD_LABELS, "'y'" if 0 else "y", "2 samples",
                when=lambda: open_data(tmp_path / "a.npz", SIG))  # fmt: skip
