"""Runs a pass on a model given as text and holds it to what every prepare pass promises."""

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort

from qcompile.core.graph import fingerprint, values

TOLERANCE = 3e-6
"""Largest difference of an output before and after, relative to the largest output."""

Arrays = Mapping[str, np.ndarray]


def parse(body: str, constants: Arrays | None = None, opset: int = 21) -> ir.Model:
    """A model from the text of its graph; ``constants`` become initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n{body}')
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    proto = onnx.shape_inference.infer_shapes(proto, check_type=True, data_prop=True)
    for i, node in enumerate(proto.graph.node):
        node.name = node.name or f"n{i}_{node.op_type}"
    return ir.from_proto(proto)


def run(model: ir.Model, batch: int = 2, positive: bool = False) -> list[np.ndarray]:
    """The outputs for seeded inputs, by ONNX Runtime with every optimization off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), options)
    rng = np.random.default_rng(7)
    feeds = {}
    for end in session.get_inputs():
        shape = [d if isinstance(d, int) else batch for d in end.shape]
        array = 3 * rng.standard_normal(shape)
        feeds[end.name] = (np.abs(array) if positive else array).astype(np.float32)
    return [np.asarray(output) for output in session.run(None, feeds)]


def ops(model: ir.Model) -> list[str]:
    """The operators of the main graph, in order."""
    return [node.op_type for node in model.graph]


def inits(model: ir.Model) -> dict[str, np.ndarray]:
    """The initializers of the main graph."""
    found = model.graph.initializers.items()
    return {name: v.const_value.numpy() for name, v in found if v.const_value is not None}


def changed(
    the_pass: ir.passes.InPlacePass, model: ir.Model, tolerance: float = TOLERANCE
) -> ir.Model:
    """Run the pass, which must change the model, and hold it to its promises.

    It reports the change; the outputs keep names, types, shapes and values; names stay unique;
    every node knows its source; a second run changes nothing and says so.
    """
    before, ends = run(model), [(v.name, v.dtype) for v in model.graph.outputs]
    assert the_pass(model).modified
    onnx.checker.check_model(ir.to_proto(model), full_check=True)
    names = [v.name for v in values(model.graph)]
    assert len(names) == len(set(names))
    node_names = [node.name for node in model.graph]
    assert len(node_names) == len(set(node_names))
    assert [(v.name, v.dtype) for v in model.graph.outputs] == ends
    for a, b in zip(before, run(model), strict=True):
        assert a.shape == b.shape
        assert np.abs(a.astype(np.float64) - b).max() <= tolerance * np.abs(a).max()
    once = fingerprint(model)
    assert not the_pass(model).modified
    assert fingerprint(model) == once
    return model


def unchanged(the_pass: ir.passes.InPlacePass, model: ir.Model) -> None:
    """Run the pass, which must leave the model alone and say so."""
    once = fingerprint(model)
    assert not the_pass(model).modified
    assert fingerprint(model) == once


def rand(*shape: int, seed: int = 0) -> np.ndarray:
    """Seeded float32 noise."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def batch_norm(channels: int, seed: int = 3) -> dict[str, np.ndarray]:
    """Parameters g, b, m, v of a BatchNormalization."""
    rng = np.random.default_rng(seed)
    return {
        "g": (rng.random(channels) + 0.5).astype(np.float32),
        "b": rng.standard_normal(channels).astype(np.float32),
        "m": rng.standard_normal(channels).astype(np.float32),
        "v": (rng.random(channels) + 0.5).astype(np.float32),
    }
