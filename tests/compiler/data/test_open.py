"""Every form in which data may be given, and what is said where there are none."""

import threading
from pathlib import Path

import numpy as np
import pytest

from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.compiler.data.preprocess import Preprocess
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, pixels, refused, signature, write_picture

SIG = one_input("N", 2, 3)
TWO = signature(("ids", "int64", ("N", 3)), ("mask", "int64", ("N", 3)))


def values(count=4):
    return np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3)


def check_values(data, count=4):
    assert len(data) == count
    got = np.concatenate([data[i].feeds["input"] for i in range(count)])
    assert np.array_equal(got, values(count))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("key", ["input", "x", "anything"])
def test_one_npz(tmp_path, save, key):
    save(tmp_path / "calib.npz", **{key: values(), "y": [3, 2, 1, 0]})
    data = open_data(tmp_path / "calib.npz", SIG)
    check_values(data)
    assert (data.name, data[1].source, data[1].label) == ("calib.npz", "calib.npz[1]", 2)
    assert data.has_labels


def test_arrays_that_are_no_inputs_are_passed_over(tmp_path):
    """As ad_calibration.npz has ``source`` and ``names`` beside ``x``."""
    np.savez(tmp_path / "a.npz", x=values(), source=np.arange(4), names=np.array(["a", "b"]))
    data = open_data(tmp_path / "a.npz", SIG)
    check_values(data)
    assert not data.has_labels


def test_one_npy(tmp_path):
    np.save(tmp_path / "calib.npy", values())
    check_values(open_data(str(tmp_path / "calib.npy"), SIG))


def test_fortran_order(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(values()))
    check_values(open_data(tmp_path / "a.npy", SIG))
    np.savez_compressed(tmp_path / "a.npz", np.asfortranarray(values()))
    check_values(open_data(tmp_path / "a.npz", SIG))


@pytest.mark.parametrize("batched", [False, True])
def test_folder_of_npy(tmp_path, batched):
    for k, x in enumerate(values()):
        np.save(tmp_path / f"{k}.npy", x[None] if batched else x)
    data = open_data(tmp_path, SIG)
    check_values(data)
    assert data[3].source == f"{tmp_path.name}/3.npy"


def test_folder_of_npz_with_one_and_many(tmp_path):
    x = values()
    np.savez(tmp_path / "a.npz", input=x[:1], label=7)
    np.savez_compressed(tmp_path / "b.npz", input=x[1:], label=[6, 5, 4])
    data = open_data(tmp_path, SIG)
    check_values(data)
    assert [data[i].label for i in range(4)] == [7, 6, 5, 4]
    assert data[3].source.endswith("/b.npz[2]")


def test_folder_of_npy_an_input(tmp_path):
    for name in ("ids", "mask"):
        (tmp_path / name).mkdir()
        for k in range(3):
            np.save(tmp_path / name / f"{k}.npy", np.full(3, k + 10 * (name == "mask"), np.uint16))
    data = open_data(tmp_path, TWO)
    assert len(data) == 3
    feeds = data[2].feeds
    assert {n: x.tolist() for n, x in feeds.items()} == {"ids": [[2] * 3], "mask": [[12] * 3]}
    assert all(x.dtype == np.int64 for x in feeds.values())
    (tmp_path / "mask" / "2.npy").unlink()
    refused(Code.DATA_NAMES, "2.npy", when=lambda: open_data(tmp_path, TWO))


def test_several_inputs_in_one_npz(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.ones((5, 3), np.uint16), mask=np.zeros((5, 3), bool))
    assert len(open_data(tmp_path / "a.npz", TWO)) == 5


def test_missing_input_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", ids=np.ones((5, 3)))
    refused(
        Code.DATA_NAMES, "a.npz", "'mask'", "ids", when=lambda: open_data(tmp_path / "a.npz", TWO)
    )
    np.save(tmp_path / "b.npy", np.ones((5, 3)))
    refused(Code.DATA_NAMES, "b.npy", when=lambda: open_data(tmp_path / "b.npy", TWO))


def test_ambiguous_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", p=values(), q=values())
    refused(Code.DATA_NAMES, "p, q", when=lambda: open_data(tmp_path / "a.npz", SIG))


def test_constants_take_the_sizes_of_named_dimensions(tmp_path):
    sig = signature(("ids", "int64", ("N", "S")), ("mask", "int64", ("N", "S")), ("k", "int64", ()))
    np.savez(tmp_path / "a.npz", ids=np.zeros((2, 7), np.uint16))
    options = DataOptions(constants={"mask": 1, "k": 16000})
    feeds = open_data(tmp_path / "a.npz", sig, options=options)[1].feeds
    assert list(feeds) == ["ids", "mask", "k"]
    assert feeds["mask"].tolist() == [[1] * 7]
    assert feeds["k"].shape == ()
    assert feeds["k"] == 16000
    bad = DataOptions(constants={"mask": (1, 2), "k": 0})
    refused(
        Code.DATA_SHAPE, "mask", when=lambda: open_data(tmp_path / "a.npz", sig, options=bad)[0]
    )
    typo = DataOptions(constants={"masks": 1})
    refused(Code.BAD_CONFIG, "masks", when=lambda: open_data(tmp_path / "a.npz", sig, options=typo))


def test_raw_integers_are_preprocessed(tmp_path):
    raw = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    np.savez(tmp_path / "a.npz", x=raw, y=[0, 1])
    data = open_data(
        tmp_path / "a.npz", one_input("N", 2, 2, 3), Preprocess(mean=(1.0, 2.0, 3.0), std=2)
    )
    want = (raw[1:].astype(np.float32) - np.float32([1, 2, 3])) / 2
    assert np.array_equal(data[1].feeds["input"], want)


def test_float_arrays_need_a_word_when_numbers_are_set(tmp_path):
    np.save(tmp_path / "a.npy", values())
    refused(
        Code.BAD_CONFIG, "a.npy", "arrays",
        when=lambda: open_data(tmp_path / "a.npy", SIG, Preprocess(std=255)),
    )  # fmt: skip
    check_values(open_data(tmp_path / "a.npy", SIG, Preprocess(std=255, arrays="ready")))
    got = open_data(tmp_path / "a.npy", SIG, Preprocess(std=2, arrays="raw"))[0].feeds["input"]
    assert np.array_equal(got, values()[:1] / 2)


def test_only_the_picture_of_several_inputs_is_preprocessed():
    sig = signature(("image", "float32", ("N", 3, 2, 2)), ("size", "float32", ("N", 2)))
    x = {"image": np.full((1, 3, 2, 2), 255, np.uint8), "size": np.array([[100, 200]])}
    feeds = open_data(x, sig, Preprocess(std=255))[0].feeds
    assert feeds["image"].max() == 1
    assert feeds["size"].tolist() == [[100, 200]]
    feeds = open_data(x, sig, Preprocess(std=100, input="size"))[0].feeds
    assert feeds["image"].max() == 255
    assert feeds["size"].tolist() == [[1, 2]]
    refused(Code.BAD_CONFIG, "'img'", when=lambda: open_data(x, sig, Preprocess(input="img")))


def test_list_file(tmp_path):
    for k, x in enumerate(values()):
        np.save(tmp_path / f"sample {k}.npy", x)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "calib.txt").write_text("# the odd ones\nsample 3.npy\n\nsample 1.npy, 7\n")
    options = DataOptions(root=tmp_path)
    data = open_data(lists / "calib.txt", SIG, options=options)
    assert [data[i].source for i in range(2)] == [
        "calib.txt/sample 3.npy",
        "calib.txt/sample 1.npy",
    ]
    assert [data[i].label for i in range(2)] == [None, 7]
    refused(
        Code.DATA_NOT_FOUND, "calib.txt, line 2", when=lambda: open_data(lists / "calib.txt", SIG)
    )


def test_in_python():
    check_values(open_data(values(), SIG))
    check_values(open_data({"input": values()}, SIG))
    check_values(open_data(list(values()), SIG))
    check_values(open_data([{"input": x} for x in values()], SIG))
    check_values(open_data(lambda: values(), SIG))
    data = open_data((values(), np.array([4, 5, 6, 7])), SIG)
    check_values(data)
    assert data[2].label == 6
    data = open_data([(x, k) for k, x in enumerate(values())], SIG)
    check_values(data)
    assert data[2].label == 2


def test_list_of_paths(tmp_path):
    paths = [write_picture(tmp_path / f"{k}.png", pixels(4, 5, k)) for k in range(3)]
    data = open_data(paths[::-1], one_input("N", 4, 5, 3))
    assert np.array_equal(data[0].feeds["input"][0], pixels(4, 5, 2))
    missing = [*paths, tmp_path / "none.png"]
    refused(
        Code.DATA_NOT_FOUND, "none.png", when=lambda: open_data(missing, one_input("N", 4, 5, 3))
    )


def test_limit_spreads_over_the_set():
    data = open_data(values(10), SIG, options=DataOptions(limit=4))
    assert [data[i].source for i in range(len(data))] == [
        "data[0]",
        "data[2]",
        "data[5]",
        "data[7]",
    ]
    check_values(open_data(values(), SIG, options=DataOptions(limit=99)))
    refused(
        Code.BAD_CONFIG,
        "limit",
        when=lambda: open_data(values(), SIG, options=DataOptions(limit=0)),
    )


def test_names_with_spaces_quotes_and_unicode(tmp_path):
    folder = tmp_path / "my 'data' \"ü\" 写"
    folder.mkdir()
    np.save(folder / "a b.npy", values())
    check_values(open_data(folder, SIG))
    check_values(open_data(str(folder / "a b.npy"), SIG))


def test_relative_paths_are_below_the_options_folder(tmp_path):
    np.save(tmp_path / "a.npy", values())
    check_values(open_data("a.npy", SIG, options=DataOptions(folder=tmp_path)))


@pytest.mark.parametrize(
    ("content", "suffix"),
    [(b"", ".npz"), (b"", ".npy"), (b"PK\3\4 not really", ".npz"), (b"\x93NUMPY\1\0", ".npy")],
)
def test_damaged_array_files(tmp_path, content, suffix):
    path = tmp_path / f"bad{suffix}"
    path.write_bytes(content)
    refused(Code.DATA_UNREADABLE, path.name, when=lambda: open_data(path, SIG))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_truncated_npz(tmp_path, save):
    save(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(99, 2, 3)))
    path = tmp_path / "a.npz"
    path.write_bytes(path.read_bytes()[:-100])
    refused(Code.DATA_UNREADABLE, "a.npz", when=lambda: open_data(path, SIG))


def test_truncated_npy_says_so_when_read(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, values())
    path.write_bytes(path.read_bytes()[:-4])
    data = open_data(path, SIG)
    assert data[0].feeds["input"].shape == (1, 2, 3)
    refused(Code.DATA_UNREADABLE, "a.npy", "shorter", when=lambda: data[3])


def test_damage_inside_a_compressed_member(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(99, 2, 3)))
    content = bytearray(path.read_bytes())
    content[2000:2100] = bytes(100)
    path.write_bytes(content)
    refused(Code.DATA_UNREADABLE, "a.npz", when=lambda: open_data(path, SIG)[50])


def test_pickles_are_not_loaded(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    refused(Code.DATA_UNREADABLE, "pickled", when=lambda: open_data(tmp_path / "a.npy", SIG))


def test_empty_sets(tmp_path):
    folder = tmp_path / "empty"
    folder.mkdir()
    refused(Code.DATA_EMPTY, "empty", when=lambda: open_data(folder, SIG))
    (folder / "notes.md").write_text("no data")
    refused(Code.DATA_EMPTY, "empty", when=lambda: open_data(folder, SIG))
    np.save(tmp_path / "none.npy", np.zeros((0, 2, 3), np.float32))
    refused(Code.DATA_EMPTY, "none.npy", when=lambda: open_data(tmp_path / "none.npy", SIG))
    (tmp_path / "none.txt").write_text("# nothing\n")
    refused(Code.DATA_EMPTY, "none.txt", when=lambda: open_data(tmp_path / "none.txt", SIG))
    refused(Code.DATA_EMPTY, when=lambda: open_data([], SIG))
    refused(Code.DATA_EMPTY, when=lambda: open_data(lambda: iter(()), SIG))


def test_nothing_there(tmp_path):
    refused(
        Code.DATA_NOT_FOUND, "nowhere", "module:function",
        when=lambda: open_data(tmp_path / "nowhere", SIG),
    )  # fmt: skip
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    refused(Code.DATA_UNREADABLE, "a.parquet", when=lambda: open_data(tmp_path / "a.parquet", SIG))


def test_pictures_and_arrays_together(tmp_path):
    write_picture(tmp_path / "a.png", pixels(2, 3))
    np.save(tmp_path / "b.npy", values())
    refused(Code.DATA_UNREADABLE, "both", when=lambda: open_data(tmp_path, SIG))
    check_values(open_data(tmp_path, SIG, options=DataOptions(exclude=("*.png",))))
    check_values(open_data(tmp_path, SIG, options=DataOptions(include=("b.*",))))
    refused(
        Code.DATA_EMPTY, "'c*'",
        when=lambda: open_data(tmp_path, SIG, options=DataOptions(include=("c*",))),
    )  # fmt: skip


def test_wrong_arrays_are_named_before_anything_is_read(tmp_path):
    np.save(tmp_path / "a.npy", values())
    np.save(tmp_path / "b.npy", np.zeros((4, 2, 9)))
    refused(
        Code.DATA_SHAPE, "b.npy", "[4, 2, 9]", "[N, 2, 3]", when=lambda: open_data(tmp_path, SIG)
    )
    np.save(tmp_path / "b.npy", np.zeros((4, 2, 3), "U3"))
    refused(Code.DATA_TYPE, "b.npy", when=lambda: open_data(tmp_path, SIG))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_threads_read_the_same(tmp_path, save):
    save(tmp_path / "a.npz", x=values(64))
    data = open_data(tmp_path / "a.npz", SIG)
    got: dict[int, np.ndarray] = {}

    def read(part: int) -> None:
        for i in range(part, 64, 4):
            got[i] = data[i].feeds["input"]

    threads = [threading.Thread(target=read, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(np.concatenate([got[i] for i in range(64)]), values(64))


def test_temporary_files_go_with_the_set(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    np.savez_compressed(tmp_path / "a.npz", x=values())
    data = open_data(tmp_path / "a.npz", SIG)
    check_values(data)
    assert list((tmp_path / "scratch").iterdir())
    del data
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("index", [-1, 4])
def test_index_out_of_range(tmp_path, index):
    write_picture(tmp_path / "a.png", pixels(4, 5))
    data = open_data(values(), SIG)
    with pytest.raises(IndexError):
        data[index]
    with pytest.raises(IndexError):
        open_data(tmp_path, one_input("N", 4, 5, 3))[index]


@pytest.mark.models
@pytest.mark.parametrize(
    ("file", "sig", "count", "labelled"),
    [
        ("mlperf_tiny/cifar10_test.npz", one_input("N", 32, 32, 3), 1300, True),
        ("mlperf_tiny/cifar10_calibration.npz", one_input("N", 32, 32, 3), 200, True),
        ("mlperf_tiny/kws_evaluation.npz", one_input("N", 49, 10, 1), 795, True),
        ("mlperf_tiny/ad_calibration.npz", one_input("N", 640), 200, False),
        ("llm/calibration.npz", one_input("batch", "sequence", dtype="int64"), 160, False),
    ],
)
def test_the_real_arrays(models_dir: Path, file, sig, count, labelled):
    data = open_data(models_dir / file, sig)
    assert (len(data), data.has_labels) == (count, labelled)
    with np.load(models_dir / file) as arrays:
        key = "x" if "x" in arrays else "input_ids"
        assert np.array_equal(data[count - 1].feeds["input"], arrays[key][-1:])
        if labelled:
            assert [data[i].label for i in range(9)] == arrays["y"][:9].tolist()
