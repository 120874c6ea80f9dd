"""LSTM and GRU step by step give what the operators give."""

import numpy as np
import pytest

from qcompile.passes.prepare.unroll_recurrent import UnrollRecurrent
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = UnrollRecurrent(8)
GATES = {"LSTM": 4, "GRU": 3}


def weights(
    op: str, hidden: int = 5, inputs: int = 3, directions: int = 1
) -> dict[str, np.ndarray]:
    rows = GATES[op] * hidden
    return {
        "w": rand(directions, rows, inputs, seed=1) / 2,
        "r": rand(directions, rows, hidden, seed=2) / 2,
        "b": rand(directions, 2 * rows, seed=3) / 4,
        "h": rand(directions, 2, hidden, seed=4),
        "c": rand(directions, 2, hidden, seed=5),
        "zero": np.zeros((directions, 2, hidden), np.float32),
    }


def model(op: str, call: str, outputs: str, directions: int = 1, steps: int = 4, more: str = ""):
    sizes = {"y": f"{steps}, {directions}, 2, 5", "yh": f"{directions}, 2, 5"}
    sizes["yc"] = sizes["yh"]
    ends = ", ".join(f"float[{sizes[name]}] {name}" for name in outputs.split(", "))
    made = {"LSTM": "y, yh, yc", "GRU": "y, yh"}[op]
    text = f"g (float[{steps}, 2, 3] x{more}) => ({ends}) {{ {made} = {op} <{call} }}"
    return parse(text, weights(op, directions=directions))


@pytest.mark.parametrize(
    ("op", "call"),
    [
        ("LSTM", "hidden_size = 5> (x, w, r)"),
        ("LSTM", "hidden_size = 5> (x, w, r, b)"),
        ("LSTM", "hidden_size = 5> (x, w, r, b, , h, c)"),
        ("LSTM", "hidden_size = 5> (x, w, r, b, , zero, c)"),
        ("LSTM", 'hidden_size = 5, direction = "reverse"> (x, w, r, b, , h, c)'),
        ("GRU", "hidden_size = 5> (x, w, r)"),
        ("GRU", "hidden_size = 5> (x, w, r, b)"),
        ("GRU", "hidden_size = 5> (x, w, r, b, , h)"),
        ("GRU", "hidden_size = 5, linear_before_reset = 1> (x, w, r, b)"),
        ("GRU", "hidden_size = 5, linear_before_reset = 1> (x, w, r, b, , h)"),
        ("GRU", 'hidden_size = 5, direction = "reverse"> (x, w, r, b)'),
    ],
)
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("outputs", ["y", "yh", "y, yh"])
def test_one_direction(op: str, call: str, steps: int, outputs: str) -> None:
    unrolled = changed(PASS, model(op, call, outputs, steps=steps))
    assert op not in ops(unrolled)


@pytest.mark.parametrize("outputs", ["yc", "y, yh, yc"])
def test_the_cell_is_given_too(outputs: str) -> None:
    changed(PASS, model("LSTM", "hidden_size = 5> (x, w, r, b, , h, c)", outputs))


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("outputs", ["y", "yh", "y, yh"])
def test_two_directions(op: str, outputs: str) -> None:
    call = 'hidden_size = 5, direction = "bidirectional"> (x, w, r, b, , h)'
    changed(PASS, model(op, call, outputs, directions=2))


@pytest.mark.parametrize("directions", [1, 2])
def test_states_that_are_inputs(directions: int) -> None:
    kind = "forward" if directions == 1 else "bidirectional"
    call = f'hidden_size = 5, direction = "{kind}"> (x, w, r, b, , s, t)'
    more = f", float[{directions}, 2, 5] s, float[{directions}, 2, 5] t"
    changed(PASS, model("LSTM", call, "y, yh, yc", directions=directions, more=more))


def test_the_inputs_of_all_steps_are_one_product() -> None:
    unrolled = changed(PASS, model("LSTM", "hidden_size = 5> (x, w, r, b)", "yh"))
    assert ops(unrolled).count("MatMul") == 1 + 3, "the first step has no state to multiply"


@pytest.mark.parametrize(
    ("op", "call", "more"),
    [
        ("LSTM", "hidden_size = 5, input_forget = 1> (x, w, r, b)", ""),
        ("LSTM", "hidden_size = 5, clip = 3.0> (x, w, r, b)", ""),
        ("LSTM", 'hidden_size = 5, activations = ["Tanh", "Tanh", "Tanh"]> (x, w, r)', ""),
        ("GRU", "hidden_size = 5> (x, w, r, b, n)", ", int32[2] n"),
        ("GRU", "hidden_size = 5> (x, w, q)", ", float[1, 15, 5] q"),
    ],
)
def test_left_alone(op: str, call: str, more: str) -> None:
    unchanged(PASS, model(op, call, "yh", more=more))


def test_long_sequences_are_left_alone() -> None:
    unchanged(UnrollRecurrent(3), model("GRU", "hidden_size = 5> (x, w, r)", "yh"))
    text = (
        'g (float["S", 2, 3] x) => (float[1, 2, 5] yh) { y, yh = GRU <hidden_size = 5> (x, w, r) }'
    )
    unchanged(PASS, parse(text, weights("GRU")))
