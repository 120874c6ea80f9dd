"""Two models on the same samples: who is a classifier, which ends belong together."""

import threading

import numpy as np
import pytest

from qcompile.compiler.verify.accuracy import evaluate
from qcompile.core.errors import Code, QCompileError
from tests.compiler.verify.fakes import FakeData, FakeSession

RNG = np.random.default_rng(1)
WEIGHT = RNG.normal(size=(8, 5)).astype(np.float32)
NOISY = WEIGHT + RNG.normal(scale=0.2, size=WEIGHT.shape).astype(np.float32)
INPUTS = RNG.normal(size=(40, 8)).astype(np.float32)


def linear(weight: np.ndarray = WEIGHT) -> FakeSession:
    return FakeSession(lambda x: [x @ weight])


def test_a_labelled_classifier() -> None:
    labels = [int(row.argmax()) for row in INPUTS @ WEIGHT]
    labels[0] = (labels[0] + 1) % 5
    accuracy = evaluate(linear(), linear(NOISY), FakeData(INPUTS, labels), data="somewhere")
    second = (INPUTS @ NOISY).argmax(axis=1)
    first = (INPUTS @ WEIGHT).argmax(axis=1)
    assert accuracy.top1 is not None
    assert accuracy.top1.float_value == 39 / 40
    assert accuracy.top1.artefact_value == np.mean(second == np.array(labels))
    assert accuracy.agreement is not None
    assert accuracy.agreement.hits == np.sum(first == second)
    assert (accuracy.samples, accuracy.data) == (40, "somewhere")
    assert accuracy.worst_sqnr_db is not None
    assert 5 < accuracy.worst_sqnr_db < 40


def test_without_labels_a_single_table_of_scores_gives_agreement() -> None:
    accuracy = evaluate(linear(), linear(NOISY), FakeData(INPUTS), data="")
    assert accuracy.agreement is not None
    assert accuracy.metrics == ()


@pytest.mark.parametrize(
    "function",
    [
        lambda x: [x * 2],  # an autoencoder: as wide as its input
        lambda x: [x[:, :3] / np.linalg.norm(x[:, :3], axis=1, keepdims=True)],  # an embedding
        lambda x: [x[:, :1]],  # one number
        lambda x: [np.stack([x, x], axis=1)],  # a sequence
        lambda x: [(x[:, :3] * 100).astype(np.int64)],
    ],
)
def test_what_is_no_classifier(function: object) -> None:
    session = FakeSession(function)  # type: ignore[arg-type]
    accuracy = evaluate(session, session, FakeData(INPUTS), data="")
    assert accuracy.agreement is None
    assert accuracy.outputs[0].identical


def test_two_outputs_and_labels() -> None:
    names = ("features", "scores")
    first = FakeSession(lambda x: [x[:, :, None], x @ WEIGHT], names)
    second = FakeSession(lambda x: [x @ NOISY, x[:, :, None]], names[::-1])
    labels = [int(row.argmax()) for row in INPUTS @ WEIGHT]
    accuracy = evaluate(first, second, FakeData(INPUTS, labels), data="")
    assert [o.name for o in accuracy.outputs] == ["features", "scores"]
    assert accuracy.outputs[0].identical
    assert not accuracy.outputs[1].identical
    assert accuracy.top1 is not None


def test_ends_are_matched_by_place_when_all_names_are_new() -> None:
    other = FakeSession(lambda x: [x @ NOISY], ("z",), ("a",))
    by_place = evaluate(linear(), other, FakeData(INPUTS), data="")
    assert by_place == evaluate(linear(), linear(NOISY), FakeData(INPUTS), data="")


def test_models_that_do_not_correspond() -> None:
    other = FakeSession(lambda x: [x, x], ("y", "z"))
    with pytest.raises(QCompileError, match="do not correspond") as caught:
        evaluate(linear(), other, FakeData(INPUTS), data="")
    assert caught.value.code is Code.RUNTIME_FAILED


def test_outputs_of_another_shape() -> None:
    with pytest.raises(QCompileError, match=r"fake\[0\]") as caught:
        evaluate(linear(), FakeSession(lambda x: [x]), FakeData(INPUTS), data="")
    assert caught.value.code is Code.RUNTIME_FAILED


@pytest.mark.parametrize(
    ("label", "complaint"),
    [
        (5, "label 5 is not a class"),
        (-1, "label -1 is not a class"),
        (np.array([1, 2]), "as many class numbers"),
        (np.array([0.5], np.float32), "as many class numbers"),
    ],
)
def test_labels_that_do_not_fit(label: int | np.ndarray, complaint: str) -> None:
    labels = [0] * 39 + [label]
    with pytest.raises(QCompileError, match=complaint) as caught:
        evaluate(linear(), linear(), FakeData(INPUTS, labels), data="")
    assert caught.value.code is Code.BAD_LABELS
    assert "fake[39]" in caught.value.message


def test_an_empty_set() -> None:
    with pytest.raises(QCompileError) as caught:
        evaluate(linear(), linear(), FakeData(INPUTS[:0]), data="")
    assert caught.value.code is Code.DATA_EMPTY


def test_threads_do_not_change_one_bit() -> None:
    labels = [int(row.argmax()) for row in INPUTS @ WEIGHT]
    data = FakeData(INPUTS, labels)
    one, four = (
        evaluate(linear(), linear(NOISY), data, data="", threads=threads) for threads in (1, 4)
    )
    assert one == four


def test_each_sample_is_counted() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0
            self.lock = threading.Lock()

        def advance(self, amount: int = 1) -> None:
            with self.lock:
                self.count += amount

    counter = Counter()
    evaluate(linear(), linear(), FakeData(INPUTS), data="", counter=counter, threads=2)
    assert counter.count == 40


def test_a_failing_sample_ends_the_evaluation() -> None:
    def fail(x: np.ndarray) -> list[np.ndarray]:
        raise QCompileError(Code.RUNTIME_FAILED, "no")

    with pytest.raises(QCompileError, match="no"):
        evaluate(linear(), FakeSession(fail), FakeData(INPUTS), data="", threads=2)


def test_a_batch_of_rows_counts_each_row() -> None:
    batches = INPUTS.reshape(8, 5, 8)
    labels = [(batch @ WEIGHT).argmax(axis=1) for batch in batches]

    class Batched(FakeData):
        def __getitem__(self, index: int):  # type: ignore[no-untyped-def]
            sample = super().__getitem__(index)
            return type(sample)({"x": sample.feeds["x"][0]}, sample.label, sample.source)

    accuracy = evaluate(linear(), linear(), Batched(batches, labels), data="")
    assert accuracy.agreement is not None
    assert (accuracy.agreement.hits, accuracy.agreement.total) == (40, 40)
