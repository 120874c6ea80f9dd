"""Stems begin at a picture and end at a depthwise layer; nothing else reads what lies between."""

import pytest

from qcompile.passes.plan.patterns.stem import find, find_longer, find_longest
from tests.passes.plan.patterns.nets import graph, one, ops

HEAD = "(float[1, 3, 12, 12] x, float[1, 12, 12, 3] n, int64[1, 3, 12, 12] i) => (float[] y)"
WEIGHTS = {
    "w": (8, 3, 3, 3), "d": (8, 1, 3, 3), "p": (8, 8, 1, 1), "m": (3,), "g": (8, 4, 3, 3),
    "l": (8, 3, 3), "e": (8, 1, 3),
}  # fmt: skip
DEPTHWISE = "Conv<group = 8>"
STEM = f"a = Conv(x, w)  b = Relu(a)  c = {DEPTHWISE}(b, d)  f = Relu(c)  "


def test_to_the_first_depthwise_layer() -> None:
    nodes, eased = one(find, graph(HEAD, STEM + "y = Conv(f, p)", WEIGHTS))
    assert nodes == eased == ["Conv", "Relu", "Conv", "Relu"]


def test_what_moves_and_scales_the_picture_belongs_to_it() -> None:
    body = f"""s = Sub(n, m)  t = Transpose<perm = [0, 3, 1, 2]>(s)
               a = Conv(t, w)  c = {DEPTHWISE}(a, d)  y = Conv(c, p)"""
    assert one(find, graph(HEAD, body, WEIGHTS))[0] == ["Sub", "Transpose", "Conv", "Conv"]


def test_the_longer_one_holds_a_layer_of_any_kind_between() -> None:
    body = STEM + f"h = Conv(f, p)  k = Relu(h)  o = {DEPTHWISE}(k, d)  y = Relu(o)"
    of = graph(HEAD, body, WEIGHTS)
    (longer,) = find_longer(of)
    assert ops(longer.nodes) == ["Conv", "Relu"] * 4
    assert longer.reason.startswith(longer.name)
    assert [p.nodes for p in find(of)] == [longer.nodes[:4]]
    assert find_longest(of) == []


def test_the_longest_one_holds_three_depthwise_layers() -> None:
    more = f"h = Conv(f, p)  o = {DEPTHWISE}(h, d)  q = Conv(o, p)  y = {DEPTHWISE}(q, d)"
    of = graph(HEAD, STEM + more, WEIGHTS)
    (longest,), (longer,) = find_longest(of), find_longer(of)
    assert ops(longest.nodes) == ["Conv", "Relu"] * 2 + ["Conv"] * 4
    assert longer.nodes == longest.nodes[:6]


@pytest.mark.parametrize(
    "behind",
    ["y = Conv(f, p)", f"h = Conv(f, p)  k = Conv(h, p)  y = {DEPTHWISE}(k, d)"],
    ids=["no second depthwise layer", "two layers between"],
)
def test_there_may_be_no_longer_one(behind: str) -> None:
    of = graph(HEAD, STEM + behind, WEIGHTS)
    assert len(find(of)) == 1
    assert find_longer(of) == []


@pytest.mark.parametrize(
    "body",
    [
        f"a = Conv(x, w)  b = Conv(a, p)  y = {DEPTHWISE}(b, d)",
        "a = Conv(x, w)  y = Conv<group = 2>(a, g)",
        f"a = Conv(x, w)  k = Relu(a)  c = {DEPTHWISE}(a, d)  y = Conv(k, p)",
        f"a = Conv(x, w)  s = Sigmoid(a)  y = {DEPTHWISE}(s, d)",
        f"h = Conv(x, w)  a = Exp(h)  q = Conv(a, p)  y = {DEPTHWISE}(q, d)",
        f"r = Exp(x)  a = Conv(r, w)  y = {DEPTHWISE}(a, d)",
        f"f = Cast<to = 1>(i)  a = Conv(f, w)  y = {DEPTHWISE}(a, d)",
    ],
    ids=[
        "a layer between", "grouped, not depthwise", "read twice", "a function of another kind",
        "behind another layer", "computed", "cast",
    ],
)  # fmt: skip
def test_what_is_none(body: str) -> None:
    assert find(graph(HEAD, body, WEIGHTS)) == []


def test_one_axis_and_many_channels_are_none() -> None:
    head = "(float[1, 3, 12] x, float[1, 8, 12, 12] z) => (float[] y, float[] v)"
    body = f"""a = Conv(x, l)  y = {DEPTHWISE}(a, e)
               c = Conv(z, p)  v = {DEPTHWISE}(c, d)"""
    assert find(graph(head, body, WEIGHTS)) == []


def test_an_output_between_ends_it() -> None:
    head = HEAD.replace("=> (", "=> (float[] a, ")
    assert find(graph(head, f"a = Conv(x, w)  y = {DEPTHWISE}(a, d)", WEIGHTS)) == []
