"""Copies of an ONNX file that end at inner values or return them, run by ONNX Runtime."""

import numpy as np
import onnx

from qcompile.targets.onnxruntime.cut import cut, exposed
from qcompile.targets.onnxruntime.executor import open_artefact
from tests.compiler.small import text_model

X = np.arange(6, dtype=np.float32).reshape(2, 3) - 2
FEEDS = {"x": X, "flag": np.array(True)}


def model() -> bytes:
    made = text_model(
        """net (float[2, 3] x, bool flag) => (float[2, 3] y, float[2, 3] z) {
            a = Add (x, one)
            b = Mul (a, two)
            y = If (flag) <
                then_branch = t () => (float[2, 3] p) { p = Sub (b, one) },
                else_branch = e () => (float[2, 3] q) { q = Identity (x) }
            >
            z = Relu (x)
        }""",
        {"one": np.float32(1), "two": np.float32(2)},
    )
    return bytes(made.SerializeToString())


def run(data: bytes, **extra: np.ndarray) -> dict[str, np.ndarray]:
    session = open_artefact(data)
    feeds = {name: FEEDS[name] for name in session.input_names}
    return dict(zip(session.output_names, session.run(feeds), strict=True))


def test_inner_values_come_behind_the_outputs() -> None:
    made = run(exposed(model(), ["b", "a", "z"]))
    assert list(made) == ["y", "z", "b", "a"]
    np.testing.assert_array_equal(made["b"], 2 * (X + 1))
    np.testing.assert_array_equal(made["y"], 2 * (X + 1) - 1)


def test_a_cut_file_holds_what_its_end_needs() -> None:
    data = cut(model(), ["a"])
    graph = onnx.load_from_string(data).graph
    assert [node.op_type for node in graph.node] == ["Add"]
    assert [t.name for t in graph.initializer] == ["one"]
    assert [i.name for i in graph.input] == ["x", "flag"], "the same feeds run it"
    np.testing.assert_array_equal(run(data)["a"], X + 1)


def test_what_a_branch_reads_is_needed() -> None:
    made = run(cut(model(), ["y"]))
    np.testing.assert_array_equal(made["y"], 2 * (X + 1) - 1)


def test_several_ends_in_the_order_asked_for() -> None:
    made = run(cut(model(), ["z", "b"]))
    assert list(made) == ["z", "b"]
    np.testing.assert_array_equal(made["z"], np.maximum(X, 0))


def test_the_file_given_is_not_changed() -> None:
    data = model()
    cut(data, ["a"])
    exposed(data, ["a"])
    assert data == model()
