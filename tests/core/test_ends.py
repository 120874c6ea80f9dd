"""Integer ends look like float ones."""

import numpy as np

from qcompile.core.ends import End, FloatEnds
from tests.compiler.verify.fakes import FakeSession

STEP = End("uint8", np.array(0.5, np.float32), np.array(10, np.int64))


def test_integer_ends_are_given_and_read_as_floats() -> None:
    seen: list[np.ndarray] = []

    def identity(x: np.ndarray) -> list[np.ndarray]:
        seen.append(x)
        return [x]

    session = FloatEnds(FakeSession(identity), {"x": STEP, "y": STEP})
    x = np.array([[-5.0, 0.0, 0.5, 1.3, 500.0]], np.float32)
    (y,) = session.run({"x": x})
    assert seen[0].dtype == np.uint8
    assert seen[0].tolist() == [[0, 10, 11, 13, 255]]
    assert y.dtype == np.float32
    assert y.tolist() == [[-5.0, 0.0, 0.5, 1.5, 122.5]]
    assert (session.input_names, session.output_names) == (("x",), ("y",))


def test_other_ends_pass_unchanged() -> None:
    session = FloatEnds(FakeSession(lambda x: [x, x.astype(np.int64)], ("y", "n")), {"y": STEP})
    x = np.array([1.25], np.float32)
    y, n = session.run({"x": x})
    assert y is x
    assert n.dtype == np.int64


def test_the_order_of_axes_is_undone() -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    end = End("float32", perm=(0, 2, 3, 1))
    session = FloatEnds(FakeSession(lambda x: [x]), {"x": end, "y": end})
    assert session.feeds({"x": x})["x"].shape == (1, 3, 4, 2)
    assert np.array_equal(session.run({"x": x})[0], x)
