"""The numpy reference by the rule ``micro`` against TFLite Micro, bit for bit, op by op."""

import zlib
from collections.abc import Iterator

import numpy as np
import pytest

from qcompile.core.errors import QCompileError
from qcompile.targets.tflite.builder import Options
from qcompile.targets.tflite.reading import read_graph
from qcompile.targets.tflite.reference.call import Rule
from qcompile.targets.tflite.reference.evaluate import run
from qcompile.targets.tflm.session import CHILD, roomy
from qcompile.targets.worker import Worker, WorkerFailed
from tests.targets.tflite.reference.draw import Draw
from tests.targets.tflite.reference.one_op import OneOp, Spec
from tests.targets.tflite.reference.operators import EXACT

pytestmark = [pytest.mark.tflm, pytest.mark.litert]

EXAMPLES = 12
LACKS = {"TOPK_V2", "TILE", "RELU_N1_TO_1", "RELU_0_TO_1", "EXP", "GELU", "NEG", "LOG", "SQRT"}
"""Operators that TFLite Micro has not, or not for int8; none of them is written for it."""
WRONG = {"RELU6"}
"""Operators that it computes something else for; none is written for it either."""
SAME = [name for name in EXACT if name not in LACKS | WRONG]


@pytest.fixture(scope="module")
def micro() -> Iterator[Worker]:
    with Worker(CHILD, timeout=60) as worker:
        yield worker


def drawn(name: str, powers: bool, count: int = EXAMPLES) -> Iterator[OneOp]:
    draw = Draw(np.random.default_rng([zlib.crc32(name.encode()), powers, 7]), powers)
    for _ in range(count):
        yield EXACT[name](draw)


def apart(micro: Worker, one: OneOp, rule: Rule = "micro") -> int:
    """The largest difference between TFLite Micro's outputs and ours."""
    data = one.data()
    micro.call("open", data, roomy(read_graph(data)))
    theirs = micro.call("run", list(one.feeds.values()), len(one.outputs))
    ours = run(data, one.feeds, rule=rule)
    pairs = zip(ours.values(), theirs, strict=True)
    return max(int(np.abs(a.astype(np.int64) - b).max(initial=0)) for a, b in pairs)


@pytest.mark.parametrize("powers", [False, True], ids=["free", "powers"])
@pytest.mark.parametrize("name", SAME)
def test_every_integer_operator(micro: Worker, name: str, powers: bool) -> None:
    assert [one for one in drawn(name, powers) if apart(micro, one)] == []


def test_fully_connected_rounds_as_convolutions_do(micro: Worker) -> None:
    """LiteRT scales its sums by a float64 instead. Two roundings show where the factor is large."""
    rng = np.random.default_rng(0)
    w = rng.integers(-3, 4, (16, 8)).astype(np.int8)
    one = OneOp(
        "FULLY_CONNECTED",
        [Spec((64, 8), "int8", 0.5), Spec((16, 8), "int8", 0.3, data=w), None],
        [Spec((64, 16), "int8", 0.47)],
        {"in0": rng.integers(-20, 21, (64, 8)).astype(np.int8)},
        Options("FullyConnectedOptions", {"keepNumDims": False}),
        version=4,
    )
    assert (apart(micro, one), apart(micro, one, "reference")) == (0, 1)


@pytest.mark.parametrize("name", sorted(LACKS))
def test_what_it_lacks_it_refuses(micro: Worker, name: str) -> None:
    with pytest.raises((WorkerFailed, QCompileError)):
        apart(micro, next(iter(drawn(name, False))))


@pytest.mark.parametrize("name", sorted(WRONG))
def test_what_it_computes_otherwise(micro: Worker, name: str) -> None:
    assert max(apart(micro, one) for one in drawn(name, False)) > 1
