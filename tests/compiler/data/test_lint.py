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


def pictures(count=12, size=24):
    """Smooth pictures in colour, N x 3 x H x W, within 0..1."""
    walk = np.random.default_rng(3).normal(size=(count, 3, size, size)).cumsum(2).cumsum(3)
    walk -= walk.min((1, 2, 3), keepdims=True)
    return (walk / walk.max((1, 2, 3), keepdims=True)).astype(np.float32)


def test_near_copies():
    values = pictures(20)
    values[11] = values[3] + np.float32(1e-4)
    message = "data: 1 of 20 samples are almost copies of another one (data[11] of data[3])"
    assert said(values) == [("info", message)]


def test_pictures_scaled_unlike_the_rest():
    values = pictures()
    assert said(values) == []
    values[5] *= 255
    ((level, message),) = said(values)
    assert level == "warning"
    assert "1 of 12 samples are scaled unlike the rest (data[5] reaches 255" in message


def test_channels_along_the_wrong_axis():
    values = pictures()
    wrong = np.moveaxis(values, 1, 3).reshape(values.shape)
    ((level, message),) = said(wrong)
    assert level == "warning"
    assert "channels came last and were reshaped to come first" in message
    assert said(np.moveaxis(values, 1, 3)) == []


def test_classes():
    def of(labels):
        data = Watched(open_data((noise(len(labels)), np.array(labels)), one_input("N", 6)))
        for i in range(len(data)):
            data[i]
        return [note.message for note in data.notes()]

    assert of([0, 1] * 15) == []
    assert of([0] * 18 + [1] * 6) == []  # two classes, three to one
    assert of([0] * 22 + [1, 2, 3, 4]) == [
        "data: 22 of 26 samples are of class 0; ranges fit what is common there"
    ]
    assert of([7] * 20) == ["data: all 20 samples are of class 7; ranges fit what is common there"]
    assert of([7] * 5) == []
