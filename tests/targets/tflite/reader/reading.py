"""Reads TFLite files and runs them beside the runtime, for tests of the reader."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from qcompile.targets.tflite.reader.read import read_model
from qcompile.targets.tflite.runtime import Kernels, TfliteSession


@dataclass(frozen=True)
class Both:
    """What a file computes, and what its ONNX form does."""

    wanted: list[np.ndarray]
    given: list[np.ndarray]

    @property
    def largest(self) -> float:
        """The largest difference; infinite where shapes or types differ."""
        if any(
            (a.shape, a.dtype) != (b.shape, b.dtype)
            for a, b in zip(self.wanted, self.given, strict=True)
        ):
            return float("inf")
        pairs = zip(self.wanted, self.given, strict=True)
        return max(
            float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max(initial=0))
            for a, b in pairs
        )

    @property
    def peak(self) -> float:
        """The largest magnitude of what is wanted."""
        return max(float(np.abs(a.astype(np.float64)).max(initial=0)) for a in self.wanted)


def proto_of(data: bytes) -> onnx.ModelProto:
    """The ONNX form of a file, checked."""
    proto = ir.to_proto(read_model(data).model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def session(proto: onnx.ModelProto) -> ort.InferenceSession:
    """ONNX Runtime with no optimization: every quantizer does what it says."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(proto.SerializeToString(), options)


def both(
    data: bytes, feeds: Mapping[str, np.ndarray] | None = None, kernels: Kernels = "builtin"
) -> Both:
    """Run a file under LiteRT and its ONNX form under ONNX Runtime."""
    made = session(proto_of(data))
    given = dict(feeds) if feeds is not None else random_feeds(made)
    return Both(TfliteSession(data, kernels).run(given), made.run(None, given))


def random_feeds(made: ort.InferenceSession, seed: int = 0) -> dict[str, np.ndarray]:
    """Noise for float inputs, any integer for integer ones; an open dimension is 1."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for end in made.get_inputs():
        shape = [1 if isinstance(n, str) else n for n in end.shape]
        kind = end.type.removeprefix("tensor(").removesuffix(")")
        if "float" in kind:
            feeds[end.name] = rng.standard_normal(shape).astype(np.float32)
        elif kind == "bool":
            feeds[end.name] = rng.integers(0, 2, shape).astype(bool)
        else:
            info = np.iinfo(kind)
            feeds[end.name] = rng.integers(info.min, info.max, shape, endpoint=True).astype(kind)
    return feeds


def ops(proto: onnx.ModelProto) -> Counter[str]:
    """How often each ONNX operator occurs."""
    return Counter(node.op_type for node in proto.graph.node)
