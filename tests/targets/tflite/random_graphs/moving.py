"""How nodes that move numbers are drawn: parts, orders and shapes."""

from typing import Any, Final

import numpy as np

from qcompile.passes.plan.tables import FEWEST
from tests.targets.tflite.random_graphs.sketch import Shape, Sketch

TABLE: Final = (64, FEWEST // 64)
"""Rows and columns of an embedding that is just worth storing in integers."""


def concat(s: Sketch) -> None:
    x = s.pick()
    shape = s.shapes[x]
    axis = s.whole(1, len(shape) - 1)
    y = s.pick(accept=lambda other: other == shape)
    others = [y if s.shapes[y] == shape else x]
    if s.flip():
        others.append(s.noise(*(2 if i == axis else n for i, n in enumerate(shape))))
    s.add("Concat", x, *others, axis=axis)


def split(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: shape[-1] > 1)
    size = s.shapes[x][-1]
    if size % 2 == 0 and s.flip():
        s.add("Split", x, outputs=2, axis=-1, num_outputs=2)
    else:
        first = s.whole(1, max(1, size - 1))
        s.add("Split", x, s.constant([first, size - first]), outputs=2, axis=-1)


def slice_(s: Sketch) -> None:
    x = s.pick()
    axis = s.whole(1, len(s.shapes[x]) - 1)
    size = s.shapes[x][axis]
    begin = s.whole(0, size - 1)
    end = s.whole(begin + 1, size)
    ends = [s.constant([n]) for n in (begin, end, axis, s.whole(1, 2))]
    s.add("Slice", x, *ends)


def embedding(s: Sketch) -> None:
    """Rows of a matrix that is worth storing in integers, by indices that are computed."""
    x = s.pick()
    axis = max(range(1, len(s.shapes[x])), key=lambda i: s.shapes[x][i])
    if s.shapes[x][axis] > TABLE[0]:
        x = s.add("Slice", x, *(s.constant([n]) for n in (0, TABLE[0], axis)))
    s.add("Gather", s.noise(*TABLE), s.add("ArgMax", x, axis=axis, keepdims=0, kind="int64"))


def gather(s: Sketch) -> None:
    if s.whole(0, 3) == 0:
        embedding(s)
        return
    x = s.pick()
    axis = s.whole(1, len(s.shapes[x]) - 1)
    indices = s.constant([s.whole(0, s.shapes[x][axis] - 1) for _ in range(s.whole(1, 3))])
    s.add("Gather", x, indices, axis=axis)


def pad(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[2] > 2 and shape[3] > 2)
    mode = "reflect" if min(s.shapes[x][2:]) > 2 and s.flip() else "constant"
    pads = [0, 0, s.whole(0, 2), s.whole(0, 2), 0, 0, s.whole(0, 2), s.whole(0, 2)]
    value = [s.constant(0.5)] if mode == "constant" and s.flip() else []
    s.add("Pad", x, s.constant(pads), *value, mode=mode)


def resize(s: Sketch) -> None:
    x = s.pick(4, lambda shape: int(np.prod(shape)) < 200)
    n, c, h, w = s.shapes[x]
    sizes = s.constant([n, c, s.whole(1, 9), s.whole(1, 9)])
    if s.flip():
        way = s.choose(["half_pixel", "align_corners", "asymmetric"])
        told: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": way}
    else:
        told = {"mode": "nearest", "nearest_mode": "floor"}
        told["coordinate_transformation_mode"] = "asymmetric"
        sizes = s.constant([n, c, h * s.whole(1, 3), w * s.whole(1, 3)])
    s.add("Resize", x, "", "", sizes, **told)


def depth_to_space(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[1] % 4 == 0)
    if s.shapes[x][1] % 4:
        x = s.add("Concat", x, x, x, x, axis=1)
    s.add("DepthToSpace", x, blocksize=2, mode=s.choose(["DCR", "CRD"]))


def space_to_depth(s: Sketch) -> None:
    x = s.pick(4, lambda shape: shape[2] % 2 == 0 and shape[3] % 2 == 0)
    if s.shapes[x][2] % 2 or s.shapes[x][3] % 2:
        x = s.add("Concat", x, x, axis=2)
        x = s.add("Concat", x, x, axis=3)
    s.add("SpaceToDepth", x, blocksize=2)


def reshape(s: Sketch) -> None:
    shape = s.shapes[x := s.pick()]
    s.add("Reshape", x, s.constant([shape[0], -1]) if s.flip() else s.constant([0, -1, shape[-1]]))


def squeeze(s: Sketch) -> None:
    x = s.pick()
    longer = s.add("Unsqueeze", x, s.constant([1])) if len(s.shapes[x]) < 4 else x
    axes = [i for i, n in enumerate(s.shapes[longer]) if n == 1 and i > 0]
    if axes and len(s.shapes[longer]) > 2:
        s.add("Squeeze", longer, s.constant(axes[:1]))
    else:
        s.add("Squeeze", s.add("ReduceMean", longer, s.constant([1])), s.constant([1]))


def unsqueeze(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: len(shape) < 4)
    if len(s.shapes[x]) < 4:
        s.add("Unsqueeze", x, s.constant([s.whole(1, len(s.shapes[x]))]))
    else:
        s.add("Unsqueeze", s.pick(2), s.constant([1]))


def expand(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: 1 in shape[1:] and int(np.prod(shape)) < 200)
    shape: Shape = s.shapes[x]
    s.add(
        "Expand", x, s.constant([s.whole(1, 3) if n == 1 and i else n for i, n in enumerate(shape)])
    )


def tile(s: Sketch) -> None:
    x = s.pick(accept=lambda shape: int(np.prod(shape)) < 200)
    s.add("Tile", x, s.constant([1, *(s.whole(1, 2) for _ in s.shapes[x][1:])]))


def transpose(s: Sketch) -> None:
    rank = len(s.shapes[x := s.pick()])
    s.add("Transpose", x, perm=[0, *(int(a) for a in s.rng.permutation(np.arange(1, rank)))])
