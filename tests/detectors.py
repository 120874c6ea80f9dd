"""Small detectors with seeded weights, whose heads decode boxes as those of real families do."""

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

SIDE = 8
"""Cells of the grid a side."""
CELL = 80.0
"""Pixels a cell: the grid spans 640."""
CELLS = SIDE * SIDE


def noise(seed: int, *shape: int) -> np.ndarray:
    """Weights of which a layer's output has about the size of its input."""
    scale = float(np.prod(shape[1:])) ** -0.5
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def pictures(count: int, seed: int = 3) -> list[dict[str, np.ndarray]]:
    """Smooth noise, 1 x 3 x 32 x 32."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 1, 3, 8, 8)).astype(np.float32)
    return [{"x": np.kron(one, np.ones((4, 4), np.float32))} for one in coarse]


def _grid() -> np.ndarray:
    """Column and row of each cell, 1 x CELLS x 2."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return np.stack([columns, rows], -1).reshape(1, CELLS, 2).astype(np.float32)


BACKBONE = """
    a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, wa, ba)
    b = Relu (a)
    c = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (b, wb, bb)
    d = Relu (c)
"""
_BACKBONE = {
    "wa": noise(1, 12, 3, 3, 3), "ba": noise(2, 12, 1)[:, 0] * 0.1,
    "wb": noise(3, 24, 12, 3, 3), "bb": noise(4, 24, 1)[:, 0] * 0.1,
}  # fmt: skip


def model(body: str, outputs: str, constants: dict[str, np.ndarray]) -> ir.Model:
    """A graph on pictures whose body goes on from ``d``, 1 x 24 x 8 x 8."""
    text = f"g (float[1, 3, 32, 32] x) => ({outputs}) {{ {BACKBONE} {body} }}"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]>\n{text}')
    proto.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), name)
        for name, array in {**_BACKBONE, **constants}.items()
        if f" {name}" in text or f"({name}" in text
    )
    for output in proto.graph.output:
        output.type.tensor_type.ClearField("shape")
    made = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
    for number, node in enumerate(made.graph):
        node.name = f"{node.op_type}_{number}"
    return made


def anchored(square: str = "Mul (two_wh, two_wh)") -> ir.Model:
    """As YOLOv5 does: centre and size in pixels by way of a Sigmoid, scores, one Concat."""
    return model(
        f"""
        h = Conv (d, wh, bh)
        t = Transpose <perm = [0, 2, 3, 1]> (h)
        r = Reshape (t, rows)
        s = Sigmoid (r)
        xy, wh_, conf = Split <axis = 2> (s, parts)
        two_xy = Mul (xy, two)
        at = Add (two_xy, grid)
        centre = Mul (at, cell)
        two_wh = Mul (wh_, two)
        square = {square}
        size = Mul (square, anchor)
        y = Concat <axis = 2> (centre, size, conf)
        """,
        "float[] y",
        {
            "wh": 2 * noise(5, 9, 24, 1, 1), "bh": noise(6, 9, 1)[:, 0],
            "rows": np.asarray([1, CELLS, 9], np.int64),
            "parts": np.asarray([2, 2, 5], np.int64),
            "two": np.float32(2), "cell": np.float32(CELL), "grid": _grid() - np.float32(0.5),
            "anchor": np.asarray([90, 130], np.float32).reshape(1, 1, 2),
        },
    )  # fmt: skip


def binned() -> ir.Model:
    """As YOLOv8 does: distances to the four sides by an expectation over 16 bins, no anchors."""
    return model(
        """
        hb = Conv (d, wbox, bbox)
        hc = Conv (d, wcls, bcls)
        h = Concat <axis = 1> (hb, hc)
        r = Reshape (h, flat)
        box, cls = Split <axis = 1> (r, parts)
        bins = Reshape (box, by_side)
        t = Transpose <perm = [0, 2, 1, 3]> (bins)
        p = Softmax <axis = 1> (t)
        e = Conv (p, weights)
        far = Reshape (e, four)
        lt = Slice (far, zero, two, one)
        rb = Slice (far, two, end, one)
        low = Sub (centres, lt)
        high = Add (centres, rb)
        sum = Add (low, high)
        centre = Mul (sum, half)
        size = Sub (high, low)
        cells = Concat <axis = 1> (centre, size)
        boxes = Mul (cells, cell)
        scores = Sigmoid (cls)
        y = Concat <axis = 1> (boxes, scores)
        """,
        "float[] y",
        {
            "wbox": 2 * noise(7, 64, 24, 1, 1), "bbox": noise(8, 64, 1)[:, 0],
            "wcls": 2 * noise(9, 5, 24, 1, 1), "bcls": noise(10, 5, 1)[:, 0] - 1,
            "flat": np.asarray([1, 69, CELLS], np.int64),
            "parts": np.asarray([64, 5], np.int64),
            "by_side": np.asarray([1, 4, 16, CELLS], np.int64),
            "weights": np.arange(16, dtype=np.float32).reshape(1, 16, 1, 1) / 4,
            "four": np.asarray([1, 4, CELLS], np.int64),
            "zero": np.asarray([0], np.int64), "two": np.asarray([2], np.int64),
            "end": np.asarray([4], np.int64), "one": np.asarray([1], np.int64),
            "centres": (_grid() + np.float32(0.5)).transpose(0, 2, 1).copy(),
            "half": np.float32(0.5), "cell": np.float32(CELL),
        },
    )  # fmt: skip


def split_rows(y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (CELLS, 4) and scores (CELLS, 5) of either detector's output."""
    table = y[0] if y.shape[-1] == 9 else y[0].T
    return table[:, :4], table[:, 4:]
