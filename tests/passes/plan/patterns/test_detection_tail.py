"""Detection tails are found by structure, in detectors only."""

import numpy as np
import onnx_ir as ir
import pytest

from qcompile.core.intersection import intersect
from qcompile.passes.plan.patterns.detection_tail import BOXES, SCORES, find_tails
from qcompile.targets.catalog import load_target
from tests.detectors import CELLS, anchored, binned, model, noise

TFLITE, ORT, MICRO = (load_target(n) for n in ("tflite-arm64", "ort-arm64", "tflite-micro"))
HEAD = {
    "wh": noise(5, 6, 24, 1, 1), "bh": noise(6, 6, 1)[:, 0], "wi": noise(7, 4, 24, 1, 1),
    "rows": np.asarray([1, CELLS, 6], np.int64), "cells": np.asarray([1, CELLS, 4], np.int64),
    "zero": np.asarray([0], np.int64), "two": np.asarray([2], np.int64),
    "four": np.asarray([4], np.int64), "axis": np.asarray([2], np.int64),
    "prior": noise(8, 1, CELLS, 2), "tenth": np.float32(0.1),
}  # fmt: skip


def ops(graph: ir.Graph, names: tuple[str, ...]) -> list[str]:
    nodes = {node.name: node for node in graph}
    return [nodes[name].op_type for name in names]


def net(body: str, outputs: str = "float[] y") -> ir.Model:
    return model(body, outputs, HEAD)


def test_boxes_by_anchors() -> None:
    found = anchored()
    (tail,) = find_tails(found.graph, TFLITE)
    assert (tail.name, tail.remedy) == (BOXES, "wide")
    assert ops(found.graph, tail.nodes) == [
        *("Sigmoid", "Split", "Mul", "Add", "Mul", "Mul", "Mul", "Mul", "Concat"),
    ], "what only moves the convolution's output is none of it"


def test_boxes_by_bins() -> None:
    """The convolution to one channel is an expectation; the Concat of both heads is the start."""
    found = binned()
    (tail,) = find_tails(found.graph, TFLITE)
    assert ops(found.graph, tail.nodes)[0] == "Concat"
    assert ops(found.graph, tail.nodes).count("Conv") == 1
    assert len(tail.nodes) == len(list(found.graph)) - 6


SSD = """
    h = Conv (d, wi)  t = Transpose <perm = [0, 2, 3, 1]> (h)  r = Reshape (t, cells)
    u = Slice (r, zero, two, axis)  v = Slice (r, two, four, axis)
    m = Mul (u, tenth)  xy = Add (m, prior)  wh_ = Exp (v)
    low = Sub (xy, wh_)  high = Add (xy, wh_)  y = Concat <axis = 2> (low, high)
"""


def test_scores_beside_boxes_are_a_tail_of_their_own() -> None:
    found = net(
        f"{SSD} k = Conv (d, wh, bh) kt = Transpose <perm = [0, 2, 3, 1]> (k)"
        " kr = Reshape (kt, rows) z = Softmax (kr)",
        "float[] y, float[] z",
    )
    boxes, scores = find_tails(found.graph, TFLITE)
    assert (boxes.name, scores.name) == (BOXES, SCORES)
    assert ops(found.graph, boxes.nodes) == ["Mul", "Add", "Exp", "Sub", "Add", "Concat"]
    assert ops(found.graph, scores.nodes) == ["Softmax"]


@pytest.mark.parametrize(
    ("why", "body"),
    [
        ("a classifier", "p = GlobalAveragePool (d) y = Softmax <axis = 1> (p)"),
        ("a scaled classifier", "h = Conv (d, wh, bh) m = Mul (h, tenth) y = Softmax (m)"),
        ("a picture", "h = Conv (d, wh, bh) y = Sigmoid (h)"),
        ("a residual", "h = Conv (d, wi) g = Conv (d, wi) s = Add (h, g) y = Relu (s)"),
        ("raw heads", "h = Conv (d, wi) k = Conv (d, wh, bh) y = Concat <axis = 1> (h, k)"),
        ("two classifiers", "h = Conv (d, wi) k = Conv (d, wh, bh) p = Sigmoid (h)"
         " q = Sigmoid (k) y = Concat <axis = 1> (p, q)"),
        ("clamped heads", "h = Conv (d, wi) k = Conv (d, wh, bh) p = Relu (h) q = Relu (k)"
         " y = Concat <axis = 1> (p, q)"),
        ("arithmetic inside", "h = Conv (d, wi) m = Mul (h, tenth) j = Concat <axis = 1> (m, d)"
         " y = Relu (j)"),
    ],
)  # fmt: skip
def test_others_have_none(why: str, body: str) -> None:
    if why == "arithmetic inside":
        body = body.replace("y = Relu (j)", "y = Conv (j, wj)")
        found = model(body, "float[] y", {**HEAD, "wj": noise(9, 3, 28, 1, 1)})
    else:
        found = net(body)
    assert find_tails(found.graph, TFLITE) == [], why


def test_boxes_and_scores_in_one_concat() -> None:
    found = net(
        "h = Conv (d, wi) k = Conv (d, wh, bh) p = Sigmoid (k) y = Concat <axis = 1> (h, p)"
    )
    (tail,) = find_tails(found.graph, ORT)
    assert ops(found.graph, tail.nodes) == ["Sigmoid", "Concat"]


def test_what_reads_it_inside_the_graph_must_be_in_it() -> None:
    """Boxes that a layer goes on with are no tail; those that only a choice reads are."""
    on = model(
        f"{SSD} m_ = MatMul (y, wm)", "float[] y, float[] m_", {**HEAD, "wm": noise(9, 4, 3)}
    )
    assert find_tails(on.graph, TFLITE) == []
    best = model(f"{SSD} i = ArgMax <axis = 1> (y)", "float[] y, int64[] i", HEAD)
    (tail,) = find_tails(best.graph, TFLITE)
    assert "ArgMax" not in ops(best.graph, tail.nodes)


def test_the_remedy_is_the_targets() -> None:
    graph = anchored().graph
    assert [t.remedy for t in find_tails(graph, ORT)] == ["float"]
    assert [t.remedy for t in find_tails(graph, TFLITE)] == ["wide"]
    assert find_tails(graph, MICRO) == [], "integers alone, and no int16 kernels"
    assert find_tails(graph, TFLITE.under("w8a16")) == [], "wide already"
    both = intersect([TFLITE, load_target("tflite-x86")])
    assert [t.remedy for t in find_tails(graph, both)] == ["wide"]
    assert find_tails(graph, intersect([ORT, TFLITE])) == [], "no remedy is common"
    assert find_tails(graph, intersect([TFLITE, ORT])) == []
