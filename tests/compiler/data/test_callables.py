"""``module:function`` in every form a function may give samples in, and what it may do wrong."""

import numpy as np
import pytest

from qcompile.compiler.data.open import open_data
from qcompile.compiler.data.options import DataOptions
from qcompile.core.errors import Code
from tests.compiler.data.helpers import one_input, refused, signature

SIG = one_input("N", 3)

MODULE = """
import numpy as np

X = np.arange(12, dtype=np.float32).reshape(4, 3)
calls = []

def array():
    return X

def named():
    return {"input": X, "y": [5, 6, 7, 8]}

def pair():
    return X, np.array([5, 6, 7, 8])

def samples():
    return [(x, k + 5) for k, x in enumerate(X)]

def generator():
    calls.append(1)
    for k, x in enumerate(X):
        yield {"input": x}, k + 5

def batches():
    yield X[:3], np.array([5, 6, 7])
    yield X[3:], np.array([8])

class Items:
    def __len__(self):
        return 4
    def __getitem__(self, k):
        return X[k], k + 5

class Group:
    items = Items

def endless():
    while True:
        yield X[0]

def broken():
    yield X[0]
    raise ValueError("disk on fire")

def number():
    return 3

def strings():
    yield "a"

def ragged():
    yield X[0]
    yield X[0, :2]

not_a_function = 3
"""


@pytest.fixture
def folder(tmp_path, request):
    (tmp_path / f"calib_{abs(hash(request.node.nodeid))}.py").write_text(MODULE)
    return tmp_path


def opened(folder, function, sig=SIG, **options):
    (file,) = folder.glob("calib_*.py")
    return open_data(f"{file.stem}:{function}", sig, options=DataOptions(folder=folder, **options))


@pytest.mark.parametrize(
    "function",
    ["array", "named", "pair", "samples", "generator", "batches", "Items", "Group.items"],
)
def test_forms(folder, function):
    data = opened(folder, function)
    assert len(data) == 4
    for k in (3, 0, 2, 1, 3):
        sample = data[k]
        assert np.array_equal(sample.feeds["input"], [[3 * k, 3 * k + 1, 3 * k + 2]])
        assert sample.label == (None if function == "array" else k + 5)
    assert data.has_labels is (function != "array")
    assert data[2].source.startswith(data.name)


def test_a_file_by_its_path(folder):
    (file,) = folder.glob("calib_*.py")
    options = DataOptions(folder=folder)
    assert len(open_data(f"{file.name}:array", SIG, options=options)) == 4
    assert len(open_data(f"{file}:array", SIG)) == 4
    refused(Code.DATA_NOT_FOUND, "none.py", when=lambda: open_data("none.py:array", SIG))


def test_a_generator_runs_once(folder):
    calls = []

    def generate():
        calls.append(1)
        yield from np.eye(3, dtype=np.float32)

    data = open_data(generate, SIG)
    assert [data[i].feeds["input"].argmax() for i in (2, 1, 0, 2)] == [2, 1, 0, 2]
    assert calls == [1]


def test_samples_of_an_iterator_may_differ_in_size():
    data = open_data(
        lambda: (np.full((k, 2), k, np.float32) for k in (1, 3, 2)), one_input("N", None, 2)
    )
    assert [data[i].feeds["input"].shape for i in range(3)] == [(1, 1, 2), (1, 3, 2), (1, 2, 2)]


def test_an_iterator_takes_no_memory(tmp_path):
    """A hundred times the memory of one sample is written, and read back, one at a time."""
    import tracemalloc

    def generate():
        for k in range(100):
            yield np.full((1, 1 << 18), k, np.float32)

    tracemalloc.start()
    data = open_data(generate, one_input("N", 1 << 18))
    assert data[99].feeds["input"][0, 0] == 99
    assert tracemalloc.get_traced_memory()[1] < 5 << 20
    tracemalloc.stop()


def test_limit_stops_an_endless_iterator(folder):
    assert len(opened(folder, "endless", limit=6)) == 6


def test_labels_that_are_arrays():
    boxes = np.zeros((5, 4))
    data = open_data(lambda: ((np.ones(3), boxes) for _ in range(2)), SIG)
    assert data[1].label.shape == (5, 4)


@pytest.mark.parametrize(
    ("function", "code", "words"),
    [
        ("missing", Code.DATA_NOT_FOUND, ["missing", "does not exist"]),
        ("not_a_function", Code.DATA_NOT_FOUND, ["is not a function"]),
        ("broken", Code.DATA_UNREADABLE, ["ValueError: disk on fire", ".py, line"]),
        ("number", Code.DATA_TYPE, ["int"]),
        ("strings", Code.DATA_TYPE, ["[0]"]),
        ("ragged", Code.DATA_SHAPE, ["[1]", "[2]"]),
    ],
)
def test_what_functions_do_wrong(folder, function, code, words):
    refused(code, *words, when=lambda: opened(folder, function))


def test_items_that_are_batches():
    class Batches:
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return np.zeros((4, 3), np.float32)

    refused(Code.DATA_SHAPE, "holds 4 samples", when=lambda: open_data(Batches, SIG))


def test_modules_that_cannot_be_imported(tmp_path):
    options = DataOptions(folder=tmp_path)
    refused(
        Code.DATA_NOT_FOUND, "no module nowhere_at_all", str(tmp_path),
        when=lambda: open_data("nowhere_at_all:f", SIG, options=options),
    )  # fmt: skip
    (tmp_path / "needs_more.py").write_text("import nowhere_at_all\n")
    refused(
        Code.DATA_UNREADABLE, "nowhere_at_all", "needs_more.py, line 1",
        when=lambda: open_data("needs_more:f", SIG, options=options),
    )  # fmt: skip
    (tmp_path / "bad_syntax.py").write_text("def f(:\n")
    refused(
        Code.DATA_UNREADABLE, "SyntaxError",
        when=lambda: open_data("bad_syntax:f", SIG, options=options),
    )  # fmt: skip


def test_one_array_for_two_inputs():
    sig = signature(("a", "float32", ("N", 3)), ("b", "float32", ("N", 3)))
    refused(Code.DATA_NAMES, "a, b", when=lambda: open_data(lambda: np.ones((2, 3)), sig))
