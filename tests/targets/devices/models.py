"""Small models for the tests of devices, as ONNX text, and one that runs for ever."""

from functools import cache

import numpy as np
import onnx

AFFINE = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 4] x) => (float[N, 3] y)
<float[4, 3] w = {1, -2, 3, 0.5, 0.25, -1, 7, 1e-3, 2, 0.1, 0.2, 0.3}>
{ y = MatMul(x, w) }"""

ENDLESS = """<ir_version: 8, opset_import: ["" : 17]>
g (float[1] x) => (float[1] y)
<int64 trips = {9000000000000000000}, bool go = {1}>
{
  y = Loop (trips, go, x) <body = b (int64 i, bool c, float[1] v) => (bool d, float[1] w)
    { d = Identity(c)
      w = Cos(v) }>
}"""

SAME = """<ir_version: 8, opset_import: ["" : 17]>
g ({dtype}[N, M] x) => ({dtype}[N, M] y)
{{ y = Identity(x) }}"""


@cache
def model(text: str) -> bytes:
    """The file of a model."""
    return onnx.parser.parse_model(text).SerializeToString()


AFFINE_FEED = {"x": np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)}
ENDLESS_FEED = {"x": np.ones(1, np.float32)}
