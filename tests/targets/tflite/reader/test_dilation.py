"""Blocks of pixels moved to samples around a convolution are its dilation, if that is the same."""

from collections.abc import Mapping

import numpy as np
import pytest

from qcompile.targets.tflite.builder import Builder, Options
from tests.targets.tflite.reader.nets import CONV, finish, noise
from tests.targets.tflite.reader.reading import both, ops, proto_of
from tests.targets.tflite.sound import q

LISTS = Mapping[str, list[list[int]]]
SAME: LISTS = {"pads": [[2, 3], [2, 2]], "crops": [[0, 1], [0, 0]]}
NONE: LISTS = {"pads": [[0, 1], [0, 0]], "crops": [[0, 1], [0, 0]]}
ODD: LISTS = {"pads": [[2, 3], [2, 2]], "crops": [[1, 2], [0, 0]]}


def blocks(
    lists: LISTS, *, stride: int = 1, read_inside: bool = False, params: bool = True
) -> bytes:
    """A 3x3 convolution of int8 on (1, 7, 8, 2) between blocks of 2 x 2."""
    b = Builder()
    x = b.tensor("x", (1, 7, 8, 2), "int8", q(0.05, 3))
    block = b.tensor("block", (2,), "int32", None, np.array([2, 2], np.int32))
    pads = b.tensor("pads", (2, 2), "int32", None, np.array(lists["pads"], np.int32))
    crops = b.tensor("crops", (2, 2), "int32", None, np.array(lists["crops"], np.int32))
    rows = (7 + sum(lists["pads"][0])) // 2
    columns = (8 + sum(lists["pads"][1])) // 2
    split = b.tensor("split", (4, rows, columns, 2), "int8", q(0.05, 3))
    b.operator("SPACE_TO_BATCH_ND", [x, block, pads], [split], version=2)
    integers = np.rint(40 * noise(3, 3, 3, 2)).clip(-127, 127).astype(np.int8)
    w = b.tensor("w", (3, 3, 3, 2), "int8", q(0.01), integers)
    bias = np.array([1, -20, 300], np.int32)
    last = b.tensor("b", (3,), "int32", q(np.float32(0.05) * np.float32(0.01)), bias)
    inner = (4, -(-(rows - 2) // stride), -(-(columns - 2) // stride), 3)
    conv = b.tensor("conv", inner, "int8", q(0.1, -4))
    fields = {**CONV, "padding": 1, "strideH": stride, "strideW": stride}
    b.operator("CONV_2D", [split, w, last], [conv], Options("Conv2DOptions", fields), version=3)
    out = (
        1,
        2 * inner[1] - sum(lists["crops"][0]),
        2 * inner[2] - sum(lists["crops"][1]),
        3,
    )
    y = b.tensor("y", out, "int8", q(0.1, -4) if params else q(0.2, -4))
    b.operator("BATCH_TO_SPACE_ND", [conv, block, crops], [y], version=2)
    return finish(b, [x], [y, conv] if read_inside else [y])


@pytest.mark.parametrize(("lists", "pads"), [(SAME, [2, 2, 2, 2]), (NONE, [0, 0, 0, 0])])
def test_padding_that_convolutions_have_makes_one_convolution(
    lists: LISTS, pads: list[int]
) -> None:
    data = blocks(lists)
    proto = proto_of(data)
    assert ops(proto)["Reshape"] == 0 and ops(proto)["Conv"] == 1
    (conv,) = (n for n in proto.graph.node if n.op_type == "Conv")
    told = {a.name: list(a.ints) for a in conv.attribute if a.ints}
    assert (told["dilations"], told["pads"]) == ([2, 2], pads)
    assert both(data, kernels="reference").largest <= 1


@pytest.mark.parametrize(
    "data",
    [blocks(ODD), blocks(SAME, read_inside=True), blocks(NONE, stride=2)],
    ids=["other padding", "read in between", "a stride"],
)
def test_anything_else_is_moved_as_the_file_says(data: bytes) -> None:
    proto = proto_of(data)
    assert ops(proto)["Reshape"] >= 4
    assert both(data, kernels="reference").largest <= 1


def test_other_parameters_behind_the_blocks_are_kept() -> None:
    assert ops(proto_of(blocks(SAME, params=False)))["Reshape"] >= 4
