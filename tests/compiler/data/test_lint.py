"""What is remarked about samples as they pass, and that good ones pass in silence."""

import threading

import numpy as np

from qcompile.compiler.data.lint import Watched
from qcompile.compiler.data.open import open_data
from tests.compiler.data.helpers import one_input


def noise(count, scale=1.0):
    return (np.random.default_rng(0).normal(size=(count, 6)) * scale).astype(np.float32)


def watched(values):
    data = Watched(open_data(values, one_input("N", *np.shape(values)[1:])))
    for i in range(len(data)):
        data[i]
    return data


def said(values, **options):
    return [(note.level, note.message) for note in watched(values).notes(**options)]


def test_silence():
    assert said(noise(40)) == []


def test_samples_pass_unchanged():
    values = noise(5)
    data = watched(values)
    assert np.array_equal(np.concatenate([data[i].feeds["input"] for i in range(5)]), values)
    assert (len(data), data.name, data.has_labels) == (5, "data", False)


def test_constant_samples():
    values = noise(40)
    values[3] = 7
    assert said(values) == [
        ("info", "data: 1 of 40 samples hold one value throughout (the first: data[3])")
    ]
    values[:9] = np.arange(9)[:, None]
    ((level, _),) = said(values)
    assert level == "warning"


def test_copies():
    values = noise(40)
    values[7] = values[5]
    message = "data: 1 of 40 samples are exact copies of another one (of data[5] first)"
    assert said(values) == [("info", message)]
    values[:10] = values[20]
    ((level, message),) = said(values)
    assert level == "warning"
    assert "10 of 40" in message
    assert "all 4 samples are the same" in said(np.repeat(noise(1), 4, 0))[0][1]


def test_raw_integers():
    raw = np.random.default_rng(0).integers(0, 256, (20, 6)).astype(np.float32)
    ((level, message),) = said(raw)
    assert level == "info"
    assert "whole numbers" in message
    assert "[preprocess]" in message
    assert said(raw, judged=["input"]) == []
    assert said(raw / 2) == []
    assert said(raw - 128) == []
    assert said(raw % 10) == []


def test_order_and_threads_do_not_matter():
    values = noise(64)
    values[10], values[20] = values[5], 3
    first = Watched(open_data(values, one_input("N", 6)))
    threads = [
        threading.Thread(target=lambda k=k: [first[i] for i in reversed(range(k, 64, 4))])
        for k in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert first.notes() == watched(values).notes()
    assert len(first.notes()) == 2


def test_only_what_was_read():
    values = noise(40)
    values[30:] = 1
    data = Watched(open_data(values, one_input("N", 6)))
    for i in range(20):
        data[i]
    assert data.notes() == []
