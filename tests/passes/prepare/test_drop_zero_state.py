"""Recurrent layers that begin at zero lose what says so, and what made it of the batch's size."""

import numpy as np
import pytest

from qcompile.passes.prepare.drop_zero_state import DropZeroState
from tests.passes.prepare.checking import changed, ops, parse, rand, unchanged

PASS = DropZeroState()
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
SIZED = (
    "s = Shape <start = 1, end = 2> (x) t = Concat <axis = 0> (one, s, five) "
    "e = Expand (zero, t) z = Slice (e, none, one, none) "
)
FILLED = "s = Shape <start = 1, end = 2> (x) t = Concat <axis = 0> (one, s, five) "


def net(op: str, text: str, call: str):
    rows = GATES[op] * 5
    constants = {
        "w": rand(1, rows, 3, seed=1),
        "r": rand(1, rows, 5, seed=2),
        "zero": np.zeros((1, 1, 5), np.float32),
        "zeros": np.zeros((1, 2, 5), np.float32),
        "h": rand(1, 2, 5, seed=3),
        "none": np.asarray([0]),
        "one": np.asarray([1]),
        "five": np.asarray([5]),
    }
    body = f"{text} y, yh = {op} <hidden_size = 5> (x, w, r, , , {call})"
    return parse(f"g (float[4, N, 3] x) => (float[4, 1, N, 5] y) {{ {body} }}", constants)


@pytest.mark.parametrize(
    ("op", "text", "call"),
    [
        ("LSTM", SIZED, "z, z"),
        ("GRU", SIZED, "z"),
        ("RNN", SIZED, "z"),
        ("LSTM", "", "zeros, zeros"),
        ("LSTM", "", ", zeros"),
        ("GRU", FILLED + "z = ConstantOfShape (t)", "z"),
    ],
)
def test_zeros_are_taken_out(op: str, text: str, call: str) -> None:
    model = changed(PASS, net(op, text, call), tolerance=0)
    assert ops(model) == [op]
    assert not any(model.graph[0].inputs[5:])


def test_one_of_two_is_taken_out() -> None:
    model = changed(PASS, net("LSTM", SIZED, "h, z"), tolerance=0)
    assert [v and v.name for v in model.graph[0].inputs[5:]] == ["h", None]


@pytest.mark.parametrize(
    ("op", "text", "call"),
    [
        ("LSTM", "", "h, h"),
        ("LSTM", "", ""),
        ("GRU", "z = Abs (h)", "z"),
        ("GRU", FILLED + "z = ConstantOfShape <value = float[1] {0.5}> (t)", "z"),
        ("GRU", "z = Slice (h, none, five, none)", "z"),
    ],
)
def test_left_alone(op: str, text: str, call: str) -> None:
    unchanged(PASS, net(op, text, call))
