"""Models for the importer's tests, written to files and run as written."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort


def parse(text: str, *, opset: int = 21, extra: str = "", functions: str = "") -> onnx.ModelProto:
    """A model of a graph in ONNX's text form."""
    imports = f'"" : {opset}' + (f", {extra}" if extra else "")
    header = f"<ir_version: {8 if opset < 21 else 10}, opset_import: [{imports}]>"
    return onnx.parser.parse_model(f"{header}\n{text}\n{functions}")


def save(proto: onnx.ModelProto, folder: Path, name: str = "model.onnx") -> Path:
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def run(
    model: ir.Model | onnx.ModelProto | Path, feeds: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """The outputs, computed by ONNX Runtime with every node as written."""
    if isinstance(model, Path):
        source: str | bytes = str(model)
    else:
        proto = ir.to_proto(model) if isinstance(model, ir.Model) else model
        source = proto.SerializeToString()
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, dict(feeds))]


def random_feeds(proto: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Seeded values for inputs of static shape."""
    rng = np.random.default_rng(seed)
    feeds = {}
    held = {tensor.name for tensor in proto.graph.initializer}
    for info in proto.graph.input:
        if info.name in held:
            continue
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        feeds[info.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    """Equal to the last bit."""
    return len(first) == len(second) and all(map(np.array_equal, first, second))
