"""Pieces hold every node once, and running them one by one gives what the whole graph gives."""

import time

import numpy as np
import pytest

from qcompile.passes.rounding.prefix import Piece, QuantizedPrefix, cut
from tests.passes.planning import EXECUTOR, Planned, draft, pictures, planned
from tests.passes.prepare.checking import parse, rand
from tests.passes.rounding.nets import CONSTANTS, LAYERS, convs


def ops(piece: Piece) -> list[str]:
    return [node.op_type for node in piece.nodes]


def test_pieces_of_a_network():
    model = convs()
    pieces = cut(model.graph, draft(model))
    assert [(ops(p), p.unit is not None) for p in pieces] == [
        (["Conv", "Relu"], True),
        (["Conv", "Relu"], True),
        (["Conv"], True),
        (["Add", "Relu"], False),
        (["Conv", "Relu"], True),
    ]
    nodes = [node for piece in pieces for node in piece.nodes]
    assert nodes == list(model.graph)


def test_what_comes_behind_the_last_layer_is_left_out():
    text = (
        "g (float[1, 4, 8, 8] x) => (float[] y) { t = Tanh (x) c = Conv (t, w1, b1) y = Tanh (c) }"
    )
    model = parse(text, CONSTANTS)
    assert [ops(p) for p in cut(model.graph, draft(model))] == [["Tanh"], ["Conv"]]


def test_a_unit_is_never_cut():
    # The Relu that the addition absorbs stands behind another layer.
    text = """g (float[1, 8, 8, 8] x) => (float[] y) {
        a = Add (x, x)
        c = Conv (x, w3, b3)
        r = Relu (a)
        d = Conv (r, w3, b3)
        y = Add (c, d)
    }"""
    model = parse(text, CONSTANTS)
    plan = draft(model)
    assert plan.mode("n2_Relu") == "absorbed"
    assert [ops(p) for p in cut(model.graph, plan)] == [["Add", "Relu"], ["Conv"], ["Conv"]]


def test_layers_without_a_bias_are_no_pieces_of_their_own():
    text = "g (float[1, 4, 8, 8] x) => (float[] y) { c = Conv (x, w1) y = Conv (c, w4, b4) }"
    model = parse(text, CONSTANTS)
    assert [p.unit is not None for p in cut(model.graph, draft(model))] == [False, True]


def prefix_of(done: Planned, threads: int = 1) -> tuple[list[Piece], QuantizedPrefix]:
    graph = done.model.graph
    pieces = cut(graph, done.plan)
    opsets = dict(graph.opset_imports)
    prefix = QuantizedPrefix(graph, done.plan, EXECUTOR, done.feeds, threads, opsets)
    prefix.start(pieces)
    return pieces, prefix


def what_layers_see(done: Planned, threads: int = 1) -> dict[str, list[np.ndarray]]:
    """The input of each layer, sample by sample, as the prefix gives it."""
    pieces, prefix = prefix_of(done, threads)
    found = {}
    for index, piece in enumerate(pieces):
        if piece.unit is not None:
            name = piece.unit.node.inputs[0].name or ""
            found[name] = list(prefix.values(name))
        prefix.run(pieces, index)
    return found


NETS = {
    "convolutions": (convs, pictures(1, 4, 10, 10)),
    "several sizes": (
        lambda: convs("H", "W"),
        [{"x": rand(1, 4, 8 + i, 12 - i, seed=i)} for i in range(4)],
    ),
    "float nodes between": (
        lambda: parse(
            """g (float[1, 4, 8, 8] x) => (float[] y) {
                c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
                t = Tanh (c)
                s = Sub (t, c)
                d = Conv (s, w3, b3)
                y = Conv (d, w3, b3b)
            }""",
            CONSTANTS | {"b3b": rand(8)},
        ),
        pictures(1, 4, 8, 8),
    ),
    "outputs of kernels that give floats": (
        lambda: parse(
            """g (float[5, 8] x) => (float[] y) {
                p = MatMul (x, m)
                t = Tanh (p)
                q = MatMul (t, m)
                y = Add (q, b1)
            }""",
            {"m": rand(8, 8), "b1": rand(8)},
        ),
        pictures(5, 8),
    ),
    "a split": (
        lambda: parse(
            """g (float[1, 4, 8, 8] x) => (float[] y) {
                c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
                s, t = Split <axis = 1> (c, parts)
                a = Add (s, t)
                j = Concat <axis = 1> (a, s)
                y = Conv (j, w3, b3)
            }""",
            CONSTANTS | {"parts": np.asarray([4, 4], np.int64)},
        ),
        pictures(1, 4, 8, 8),
    ),
    "an absorbed clamp behind another layer": (
        lambda: parse(
            """g (float[1, 8, 8, 8] x) => (float[] y) {
                a = Add (x, x)
                c = Conv (x, w3, b3)
                r = Relu (a)
                d = Conv (r, w3, b4)
                y = Conv <pads = [1, 1, 1, 1]> (d, w4, b2)
            }""",
            CONSTANTS,
        ),
        pictures(1, 8, 8, 8),
    ),
    "a body that captures": (
        lambda: parse(
            """g (float[1, 4, 8, 8] x, bool f) => (float[] y) {
                c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
                d = Conv (c, w3, b3)
                r = If (f) <
                    then_branch = t () => (float[1, 8, 8, 8] t0) { t0 = Mul (c, d) },
                    else_branch = e () => (float[1, 8, 8, 8] e0) {
                        e0 = If (f) <then_branch = t () => (float[1, 8, 8, 8] t1) { t1 = Neg (c) },
                                     else_branch = e () => (float[1, 8, 8, 8] e1) { e1 = Abs (d) }>
                    }>
                y = Conv (r, w3, b2)
            }""",
            CONSTANTS,
        ),
        [{**f, "f": np.asarray(i % 2 == 0)} for i, f in enumerate(pictures(1, 4, 8, 8))],
    ),
}


@pytest.mark.parametrize("name", NETS)
def test_piece_by_piece_is_the_whole_graph(name):
    make, feeds = NETS[name]
    done = planned(make(), feeds)
    seen = what_layers_see(done)
    assert seen
    qdq = done.qdq()
    inside = {v.name for node in qdq.graph for v in node.outputs}
    dequantized = [n for n in seen if f"{n}_dequantized" in inside]
    assert dequantized == list(seen)
    whole = EXECUTOR.load(qdq, [f"{n}_dequantized" for n in seen], exact=True)
    for index, feed in enumerate(feeds):
        for wanted, (value, got) in zip(whole.run(feed), seen.items(), strict=True):
            params = done.plan.values[value].params
            assert params is not None
            steps = np.abs(got[index] - wanted) / params.scale
            # Fused in other pieces, a kernel may round a tie the other way.
            assert steps.max() <= 1.001
            assert np.count_nonzero(steps > 0.5) <= steps.size // 1000, value


def test_what_integer_nodes_made_is_held_as_integers_and_dropped_behind_its_last_reader():
    done = planned(convs(), pictures(1, 4, 10, 10))
    pieces, prefix = prefix_of(done)
    live = []
    for index, _ in enumerate(pieces):
        live.append({name: arrays[0].dtype.name for name, arrays in prefix._live.items()})
        prefix.run(pieces, index)
    assert live == [
        {"x": "float32"},
        {"r1": "uint8"},
        {"r1": "uint8", "r2": "uint8"},
        {"r1": "uint8", "c3": "uint8"},
        {"r3": "uint8"},
    ]
    assert prefix._live == {}


def test_an_initializer_that_is_an_input_too_needs_no_feed():
    text = """g (float[1, 4, 8, 8] x, float[1, 4, 1, 1] k) => (float[] y) {
        a = Add (x, k)
        c = Conv (a, w1, b1)
        y = Relu (c)
    }"""
    model = parse(text, CONSTANTS | {"k": rand(1, 4, 1, 1)})
    feeds = pictures(1, 4, 8, 8)
    plan = draft(model)
    pieces = cut(model.graph, plan)
    prefix = QuantizedPrefix(model.graph, plan, EXECUTOR, feeds)
    prefix.start(pieces)
    assert prefix._live.keys() == {"x"}


def test_threads_give_the_same_bytes():
    done = planned(convs(), pictures(1, 4, 10, 10, count=7))
    one, two = what_layers_see(done), what_layers_see(done, threads=2)
    assert all(a.tobytes() == b.tobytes() for n in one for a, b in zip(one[n], two[n], strict=True))
    assert len(one) == len(LAYERS)


def test_cost_is_linear_in_the_number_of_pieces():
    body, last = [], "x"
    for index in range(300):
        body.append(f"c{index} = Conv (r{index}, w, b) r{index + 1} = Relu (c{index})")
        last = f"r{index + 1}"
    text = "\n".join(["r0 = Tanh (x)", *body, f"y = Tanh ({last})"])
    model = parse(
        f"g (float[1, 2, 3, 3] x) => (float[] y) {{ {text} }}",
        {"w": np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1), "b": np.zeros(2, np.float32)},
    )
    done = planned(model, pictures(1, 2, 3, 3, count=2))
    pieces, prefix = prefix_of(done)
    assert len(pieces) == 301
    start = time.process_time()
    for index, _ in enumerate(pieces):
        prefix.run(pieces, index)
    assert time.process_time() - start < 6.0  # 1 s, most of it the runtime's loading
