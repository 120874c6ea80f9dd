"""Artefacts of one plan are held against each other."""

import numpy as np

from qcompile.compiler.verify.parity import compare_artefacts
from tests.compiler.verify.fakes import FakeSession


def feeds(*rows: list[float]) -> list[dict[str, np.ndarray]]:
    return [{"x": np.asarray([row], np.float32)} for row in rows]


def test_the_largest_difference_and_the_classes_that_agree() -> None:
    same = FakeSession(lambda x: [x])
    moved = FakeSession(lambda x: [x + np.asarray([[0.0, 0.5]], np.float32)])
    (found,) = compare_artefacts({"a": same, "b": moved}, feeds([1, 0], [1, 0.75], [0, 1]))
    assert (found.samples, found.same_class, found.worst) == (3, 2, 0.5)
    assert str(found) == (
        "outputs of a and b differ by at most 0.5, and name the same class for 2 of 3 samples"
    )


def test_outputs_that_are_no_scores_have_no_class() -> None:
    picture = FakeSession(lambda x: [x.reshape(1, 1, 2, 1)])
    (found,) = compare_artefacts({"a": picture, "b": picture}, feeds([1, 2]), threads=2)
    assert (found.same_class, found.worst) == (None, 0.0)
    assert str(found) == "outputs of a and b differ by at most 0 on 1 samples"


def test_each_is_compared_with_the_first() -> None:
    one, two, three = (FakeSession(lambda x, n=n: [x + np.float32(n)]) for n in range(3))
    found = compare_artefacts({"a": one, "b": two, "c": three}, feeds([1, 2]))
    assert [(p.one, p.other, p.worst) for p in found] == [("a", "b", 1.0), ("a", "c", 2.0)]
