"""Graphs given as text for tests of patterns: constants by name, nodes named by op and number."""

from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper

from qcompile.passes.plan.patterns.pattern import Pattern


def graph(head: str, body: str, constants: dict[str, tuple[int, ...]]) -> ir.Graph:
    """A graph with shapes inferred; constants of seeded noise, by shape."""
    proto = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]>\ng {head} {{ {body} }}'
    )
    rng = np.random.default_rng(5)
    proto.graph.initializer.extend(
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in constants.items()
    )
    made = ir.from_proto(onnx.shape_inference.infer_shapes(proto, strict_mode=True))
    for number, node in enumerate(made.graph):
        node.name = f"{node.op_type}_{number}"
    return made.graph


def ops(names: Sequence[str]) -> list[str]:
    """Op types, of node names."""
    return [name.rsplit("_", 1)[0] for name in names]


def one(find: Callable[[ir.Graph], list[Pattern]], of: ir.Graph) -> tuple[list[str], list[str]]:
    """Op types of the nodes, and of the eased ones, of the only pattern found."""
    (found,) = find(of)
    assert found.reason.startswith(found.name)
    return ops(found.nodes), ops(found.eased)
